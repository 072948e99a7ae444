"""Where the CPU goes: samples of the workloads in one process, as a table and as flame graphs."""
