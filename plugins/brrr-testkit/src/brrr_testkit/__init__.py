"""Servers, faults and workloads for the tests of brrr's backends. Import the modules; this package holds no names."""
