"""The SSE edge: its pure parts, the hub on the memory bus, and real servers with a real client."""
