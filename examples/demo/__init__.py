"""The demo: an HTTP front and a worker over one queue and store, in one process. `make demo` starts it."""
