// 创建SSE连接
const eventSource = new EventSource(
  `http://localhost:8000/api/v1/sse/projects/${projectId}/stages/rewrite/`
);

// 监听消息
eventSource.onmessage = (event) => {
  const data = JSON.parse(event.data);

  switch (data.type) {
    case 'connected':
      console.log('SSE连接已建立');
      break;

    case 'token':
      // 流式文本片段
      console.log('Token:', data.content);
      updateUI(data.full_text);
      break;

    case 'stage_update':
      // 阶段状态更新
      console.log('进度:', data.progress + '%');
      updateProgress(data.progress);
      break;

    case 'progress':
      // 批量处理进度
      console.log(`处理进度: ${data.current}/${data.total}`);
      break;

    case 'done':
      // 完成
      console.log('生成完成:', data.full_text);
      eventSource.close();
      break;

    case 'error':
      // 错误
      console.error('错误:', data.error);
      eventSource.close();
      break;

    case 'stream_end':
      // 流结束
      console.log('SSE流已关闭');
      eventSource.close();
      break;
  }
};

// 错误处理
eventSource.onerror = (error) => {
  console.error('SSE连接错误:', error);
  eventSource.close();
};

// 关闭连接
// eventSource.close();
