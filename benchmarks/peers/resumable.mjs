// (e) resumable-stream: GET /topic follows (or begins) the topic's stream, POST / pushes tokens into the streams.
import { createServer } from "node:http";
import { Readable } from "node:stream";
import { createClient } from "redis";
import { createResumableStreamContext } from "resumable-stream";

const [port, url] = process.argv.slice(2);
const publisher = createClient({ url });
const subscriber = createClient({ url });
await Promise.all([publisher.connect(), subscriber.connect()]);
const context = createResumableStreamContext({ waitUntil: () => {}, publisher, subscriber });

const sources = new Map(); // topic -> the controller that its tokens are pushed into
const source = (topic) => () => new ReadableStream({ start: (controller) => void sources.set(topic, controller) });

const token = (topic, content) =>
  `data: ${JSON.stringify({ type: "token", content, stage: "s", project_id: topic, timestamp: Date.now() / 1000 })}\n\n`;

const clock = () => `@${process.hrtime.bigint().toString().padStart(19, "0")}@`; // CLOCK_MONOTONIC, as the readers' is
const until = (due) => new Promise((resolve) => setTimeout(resolve, Math.max(due - performance.now(), 0)));

async function push({ topics, count, rate, content, padding }) {
  for (const topic of topics) {
    if (!sources.has(topic)) await context.resumableStream(topic, source(topic));
  }
  const began = performance.now();
  for (let n = 0; n < count; n++) {
    const due = began + (rate ? (n * 1000) / rate : 0);
    if (rate && due > performance.now()) await until(due);
    else if (!rate && n % 100 === 99) await new Promise(setImmediate);
    const topic = topics[n % topics.length];
    sources.get(topic).enqueue(token(topic, content || clock() + "x".repeat(padding)));
  }
}

async function follow(topic, response) {
  const stream = await context.resumableStream(topic, source(topic));
  response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-cache" });
  response.flushHeaders();
  const readable = Readable.fromWeb(stream);
  readable.on("error", () => response.destroy());
  response.on("close", () => readable.destroy());
  readable.pipe(response);
}

createServer(async (request, response) => {
  try {
    if (request.method === "GET") return await follow(request.url.slice(1), response);
    let body = "";
    for await (const part of request) body += part;
    await push(JSON.parse(body));
    response.end("done");
  } catch (error) {
    console.error(error);
    response.destroy();
  }
}).listen(Number(port), "127.0.0.1", 4096);
