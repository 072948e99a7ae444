"""What a user's code touches: handlers, applications, the active worker, connections by URL."""
