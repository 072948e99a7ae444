"""Real servers on free ports of 127.0.0.1. A test is skipped if a server is missing; with `CI=true` it fails."""
