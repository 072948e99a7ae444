"""Real faults on real backends: workers, servers, networks, disks and clocks that fail while workflows run."""
