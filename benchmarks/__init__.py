"""How fast, with how many round trips, in how much memory: `make bench`."""
