// What the page makes of the messages of a project.
const query = new URLSearchParams(location.search);
const project = query.get('project') ?? '123';
const client = new ProjectStreamClient(query.get('server') ?? 'http://localhost:8000', project);
const pipeline = document.querySelector('#pipeline');
document.querySelector('#project').textContent = project;

function card(stage) {
  let found = document.querySelector(`[data-stage="${CSS.escape(stage)}"]`);
  if (!found) {
    found = document.querySelector('template').content.firstElementChild.cloneNode(true);
    found.dataset.stage = stage;
    found.querySelector('.name').textContent = stage;
    document.querySelector('main').append(found);
  }
  const show = (part, text) => { found.querySelector(part).textContent = text; };
  const advance = (percent) => { found.querySelector('progress').value = percent; };
  return { show, advance, text: (part) => found.querySelector(part).textContent };
}

client
  .on('connected', () => { pipeline.textContent = '已连接'; })
  .on('token', ({ stage, full_text }) => card(stage).show('.text', full_text))
  .on('stage_update', ({ stage, status, progress }) => {
    card(stage).show('.state', status);
    if (progress !== undefined) card(stage).advance(progress);
  })
  .on('progress', ({ stage, progress, item_name }) => {
    card(stage).advance(progress);
    card(stage).show('.state', item_name);
  })
  .on('item_completed', ({ stage, metadata }) => card(stage).show('.items', `${card(stage).text('.items')} 🖼 ${metadata.url}`))
  .on('done', ({ stage }) => {
    card(stage).show('.state', 'done');
    card(stage).advance(100);
  })
  .on('error', ({ stage, error, retry_count }) => card(stage).show('.state', `${error} (${retry_count})`))
  .on('pipeline_done', () => { pipeline.textContent = '完成'; })
  .on('pipeline_error', ({ error }) => { pipeline.textContent = `失败: ${error}`; })
  .connect();
