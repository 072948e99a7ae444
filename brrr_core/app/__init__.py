"""The public side of brrr: handlers, applications, the active worker, and connections by URL."""
