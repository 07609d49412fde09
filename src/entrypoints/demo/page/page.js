// The demo page: one EventSource on the project's route, the seed's messages, and a button. See fold.js and view.js.

import { emptyState, fold } from "/demo/fold.js";
import { View } from "/demo/view.js";

const RETRY_MS = 2000;
const $ = (selector) => document.querySelector(selector);

const setting = await (await fetch("/demo/setting")).json();
const view = new View(setting.stages);
let state = emptyState(setting.stages);
let source = null;

// What the browser tests read. `rebuilt` is the text of each stage made of token messages alone.
const probe = (window.stagecastDemo = { rebuilt: state.rebuilt, state, connections: 0, messages: 0, ended: false });

// A new connection is told everything about the newest run, finished or not, so the page begins with nothing.
function connect() {
  source?.close();
  state = emptyState(setting.stages);
  Object.assign(probe, { rebuilt: state.rebuilt, state, ended: false });
  probe.connections += 1;
  view.show(state, Object.keys(state.stages));
  indicate("connecting");
  source = new EventSource(`/api/v1/sse/projects/${setting.project_id}/?replay=latest`);
  source.onmessage = onMessage;
  source.onerror = onError;
}

function onMessage(event) {
  const message = JSON.parse(event.data);
  probe.messages += 1;
  if (message.type === "connected") return indicate("live");
  if (message.type === "stream_end") return end();
  const changed = fold(state, message);
  if (changed.length) view.show(state, changed);
  if (message.type === "pipeline_done" || message.type === "pipeline_error") indicate("finished");
}

function end() {
  source.close();
  source = null;
  probe.ended = true;
  indicate("finished");
}

// The browser reconnects by itself, with the id of the last message, unless the server told it to stop (204) or it
// met something that is no event stream.
function onError() {
  if (source.readyState === EventSource.CONNECTING) return indicate("reconnecting");
  if (state.outcome) return end();
  indicate("reconnecting");
  source = null;
  setTimeout(() => source ?? connect(), RETRY_MS);
}

function indicate(connection) {
  $("#connection").dataset.state = connection;
  $("#connection").textContent = connection;
}

async function run(failStage) {
  const buttons = [$("#run"), $("#run-failing")];
  for (const button of buttons) button.disabled = true;
  problem("");
  try {
    const answer = await fetch("/demo/runs", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ text: $("#text").value, fail_stage: failStage }),
    });
    const body = await answer.json();
    if (!answer.ok) problem(body.error);
    else if (source === null) connect();
  } catch (error) {
    problem(`The server cannot be reached: ${error.message}`);
  } finally {
    for (const button of buttons) button.disabled = false;
  }
}

function problem(text) {
  $("#problem").textContent = text;
  $("#problem").hidden = !text;
}

function count() {
  const length = [...$("#text").value].length;
  $("#count").textContent = `${length.toLocaleString("en")} of ${setting.longest_text.toLocaleString("en")}`;
}

$("#transport").textContent = setting.transport;
$("#writer").textContent = setting.writer;
$("#writer").dataset.model = setting.model ?? "";
$("#text").value = setting.text;
$("#text").addEventListener("input", count);
$("#form").addEventListener("submit", (event) => {
  event.preventDefault();
  run(null);
});
$("#run-failing").addEventListener("click", () => run($("#fail-stage").value));
$("#theme").addEventListener("click", () => {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const root = document.documentElement;
  root.dataset.theme = (root.dataset.theme || (dark ? "dark" : "light")) === "dark" ? "light" : "dark";
});
count();
connect();
