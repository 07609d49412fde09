"""The soak: publishers, servers, workers and viewers for half an hour, while everything between them is broken."""
