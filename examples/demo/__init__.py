"""The demo: an HTTP front and a worker over one backend, in one process. `make demo` starts it."""
