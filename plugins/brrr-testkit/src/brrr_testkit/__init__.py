"""Servers, faults and workloads for the tests of brrr's backends. Import its modules: the package has no names."""
