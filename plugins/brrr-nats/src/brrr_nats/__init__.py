"""brrr on NATS JetStream: queue, store and cache."""
