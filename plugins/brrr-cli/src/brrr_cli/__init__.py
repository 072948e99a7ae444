"""The command line `brrr`: workers, schedules and results, and operators' tools."""
