"""brrr on Redis and Valkey: queue, store and cache."""
