"""A transport over NATS JetStream: the log's rules over a store of messages, by compare-and-swap."""
