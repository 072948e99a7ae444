"""brrr: durable execution for Python without a server."""
