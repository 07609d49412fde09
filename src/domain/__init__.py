"""What stagecast means: events, topics, runs, ports and use cases; knows no transport, framework or wire format."""
