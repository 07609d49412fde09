// From messages to what the page shows: the state of each stage, and of the pipeline. Pure; knows no DOM and no network.

export function emptyStage() {
  return { status: "idle", message: "", progress: 0, text: "", items: new Map(), metadata: null, position: "" };
}

export function emptyState(stages) {
  return {
    stages: Object.fromEntries([...stages, "pipeline"].map((name) => [name, emptyStage()])),
    rebuilt: Object.fromEntries(stages.map((name) => [name, ""])),
    outcome: null,
  };
}

// Folds one message into `state`; returns the names of the stages that changed.
export function fold(state, message) {
  if (message.type === "reset") return reset(state, message);
  if (message.type === "pipeline_done" || message.type === "pipeline_error") {
    state.outcome = { ok: message.type === "pipeline_done", error: message.error ?? "" };
    return ["pipeline"];
  }
  const stage = state.stages[message.stage];
  if (!stage) return [];
  switch (message.type) {
    case "token":
      token(state, stage, message);
      break;
    case "stage_update":
      update(state, stage, message);
      break;
    case "progress":
      stage.status = "processing";
      stage.progress = message.progress ?? stage.progress;
      stage.message = `${message.item_name ?? ""} · ${message.current} of ${message.total}`;
      break;
    case "item_completed":
      stage.items.set(message.sequence_number, message.metadata ?? {});
      break;
    case "done":
      Object.assign(stage, { status: "done", progress: 100, message: "", metadata: message.metadata ?? null });
      break;
    case "error":
      stage.status = message.reason === "cancelled" ? "skipped" : "error";
      stage.message = message.error;
      break;
    default:
      return [];
  }
  return [message.stage];
}

function token(state, stage, message) {
  const continued = state.rebuilt[message.stage] + message.content;
  state.rebuilt[message.stage] = message.full_text === continued ? continued : message.full_text;
  stage.text = message.full_text;
  if (stage.status !== "done") stage.status = "processing";
}

function update(state, stage, message) {
  if (message.status === "queued" && message.stage === "pipeline") state.outcome = null;
  stage.status = message.status;
  stage.progress = message.progress ?? stage.progress;
  stage.message = message.message ?? (message.status === "processing" ? stage.message : "");
}

// What was shown is not continuous with what follows. Where nobody holds the run any more, that is its end.
function reset(state, message) {
  const names = message.stage ? [message.stage] : Object.keys(state.stages);
  for (const name of names.filter((one) => one in state.stages)) {
    state.stages[name] = emptyStage();
    if (name in state.rebuilt) state.rebuilt[name] = "";
  }
  if (message.reason === "lost") state.outcome = { ok: false, error: "The server lost this run." };
  else if (!message.stage || message.stage === "pipeline") state.outcome = null;
  return names;
}
