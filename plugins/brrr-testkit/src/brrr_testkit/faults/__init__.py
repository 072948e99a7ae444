"""Faults on demand: proxies in front of servers, and backends that count operations, fail or die."""
