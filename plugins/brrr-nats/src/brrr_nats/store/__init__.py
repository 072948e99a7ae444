"""The store role in a NATS key-value bucket."""
