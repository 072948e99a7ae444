"""The client of Redis and Valkey servers: connections, logins, routing, retries and errors."""
