"""Compare brrr with other task queues and workflow engines: `make bench-peers`."""
