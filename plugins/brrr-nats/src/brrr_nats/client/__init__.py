"""The client of NATS servers: connections, logins, requests, streams."""
