"""Everything that rules use: contexts, checks, other processes, failing servers, histories, leftovers."""
