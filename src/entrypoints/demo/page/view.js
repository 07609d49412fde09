// Shows the state of stages. Text from the stream only ever becomes text nodes, attributes of images and alt texts.

const TITLES = { rewrite: "Rewrite", storyboard: "Storyboard", image_generation: "Images", pipeline: "Pipeline" };
const LABELS = {
  idle: "idle", queued: "queued", processing: "streaming", retrying: "retrying", done: "done", error: "failed",
  skipped: "not started",
};

export class View {
  constructor(stages) {
    this.cards = Object.fromEntries(stages.map((name) => [name, new Card(name)]));
    this.overall = document.querySelector("#overall");
    this.steps = Object.fromEntries(stages.map((name) => [name, step(name)]));
  }

  show(state, names) {
    for (const name of names) this.cards[name]?.show(state.stages[name]);
    const stages = Object.keys(this.cards).map((name) => state.stages[name]);
    const status = pipelineStatus(state);
    const percent = Math.round(stages.reduce((sum, stage) => sum + stage.progress, 0) / stages.length);
    for (const [name, element] of Object.entries(this.steps)) element.dataset.status = state.stages[name].status;
    this.overall.dataset.status = status;
    progress(this.overall, percent);
    this.overall.querySelector(".message").textContent = summary(state, status);
  }
}

class Card {
  constructor(name) {
    this.root = document.querySelector(`#stage-${name}`);
    this.root.append(document.querySelector("#stage-template").content.cloneNode(true));
    this.root.querySelector("h2").textContent = TITLES[name] ?? name;
    this.root.querySelector(".bar").setAttribute("aria-label", TITLES[name] ?? name);
    this.body = this.root.querySelector(".body");
    this.isGallery = name === "image_generation";
    this.body.classList.add(this.isGallery ? "gallery" : "text");
    this.text = document.createTextNode("");
    this.pictures = new Map();
    if (!this.isGallery) this.body.append(this.text);
  }

  show(stage) {
    this.root.dataset.status = stage.status;
    this.root.querySelector(".status").textContent = LABELS[stage.status] ?? stage.status;
    this.root.querySelector(".message").textContent = stage.message || measure(stage.metadata);
    progress(this.root, stage.progress);
    if (this.isGallery) this.showPictures(stage.items);
    else this.showText(stage.text);
  }

  showText(text) {
    const shown = this.text.data;
    if (text === shown) return;
    const atEnd = this.body.scrollHeight - this.body.scrollTop - this.body.clientHeight < 24;
    if (shown && text.startsWith(shown)) this.text.appendData(text.slice(shown.length));
    else this.text.data = text;
    if (atEnd) this.body.scrollTop = this.body.scrollHeight;
  }

  showPictures(items) {
    for (const [number, figure] of this.pictures) {
      if (!items.has(number)) {
        figure.remove();
        this.pictures.delete(number);
      }
    }
    for (const [number, item] of items) {
      if (this.pictures.has(number)) continue;
      const figure = picture(number, item);
      const next = [...this.pictures.keys()].filter((other) => other > number).sort((a, b) => a - b)[0];
      this.body.insertBefore(figure, this.pictures.get(next) ?? null);
      this.pictures.set(number, figure);
    }
  }
}

// An SVG inside an <img> runs no script and loads nothing.
function picture(number, item) {
  const figure = document.createElement("figure");
  const image = document.createElement("img");
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(item.svg ?? "")}`;
  image.alt = item.caption ?? `Shot ${number}`;
  image.title = image.alt;
  const label = document.createElement("figcaption");
  label.textContent = String(number);
  figure.append(image, label);
  return figure;
}

function step(name) {
  const element = document.createElement("li");
  element.textContent = name;
  document.querySelector("#steps").append(element);
  return element;
}

function progress(root, percent) {
  const bar = root.querySelector(".bar");
  bar.setAttribute("aria-valuenow", String(percent));
  bar.firstElementChild.style.width = `${percent}%`;
  root.querySelector(".percent").textContent = root.dataset.status === "idle" ? "" : `${Math.round(percent)} %`;
}

function pipelineStatus(state) {
  if (state.outcome) return state.outcome.ok ? "done" : "error";
  return failed(state) ? "error" : state.stages.pipeline.status;
}

// A stage that has failed ends the pipeline, also where its worker is dead and nobody says so.
function failed(state) {
  return Object.values(state.stages).find((stage) => stage.status === "error");
}

function summary(state, status) {
  if (status === "done") return "Done: every stage has finished.";
  if (status === "error") return state.outcome?.error || failed(state)?.message || "";
  if (status === "queued") return "Waiting for a worker.";
  return state.stages.pipeline.message || (status === "idle" ? "Press the button to start." : "");
}

function measure(metadata) {
  if (!metadata) return "";
  const seconds = (metadata.latency_ms / 1000).toFixed(1);
  return metadata.images === undefined ? `${metadata.tokens} tokens in ${seconds} s` : `${metadata.images} images in ${seconds} s`;
}
