"""Workflows for tests of a backend: workers, load during a fault, killed processes, programs that end early."""
