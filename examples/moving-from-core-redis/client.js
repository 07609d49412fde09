// The client that the seed's users wrote later: one class for both routes. It reconnects only if asked.
class ProjectStreamClient {
  static ENDS_STAGE = ['done', 'error', 'stream_end'];
  static ENDS_PROJECT = ['pipeline_done', 'pipeline_error', 'stream_end'];

  constructor(server, projectId, stageName = null, { reconnect = false } = {}) {
    const stage = stageName === null ? '' : `stages/${encodeURIComponent(stageName)}/`;
    this.url = `${server}/api/v1/sse/projects/${encodeURIComponent(projectId)}/${stage}`;
    this.endings = stageName === null ? ProjectStreamClient.ENDS_PROJECT : ProjectStreamClient.ENDS_STAGE;
    this.reconnect = reconnect;
    this.listeners = {};
    this.source = null;
  }

  on(type, listener) {
    (this.listeners[type] ??= []).push(listener);
    return this;
  }

  connect() {
    this.close();
    this.source = new EventSource(this.url);
    this.source.onmessage = (event) => {
      const message = JSON.parse(event.data);
      this.emit(message.type, message);
      this.emit('*', message);
      if (this.endings.includes(message.type)) {
        this.close();
      }
    };
    this.source.onerror = () => {
      this.emit('connection_error', null);
      if (!this.reconnect) {
        this.close();
      }
    };
    return this;
  }

  close() {
    this.source?.close();
    this.source = null;
  }

  get isClosed() {
    return this.source === null;
  }

  emit(type, message) {
    for (const listener of this.listeners[type] ?? []) {
      listener(message);
    }
  }
}
