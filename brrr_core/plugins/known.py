"""The plugins that the project ships. If no installed plugin claims a name, errors say what to install."""

from typing import Final

__all__ = ["KNOWN_BACKENDS", "KNOWN_CODECS", "KNOWN_COMMANDS"]

KNOWN_BACKENDS: Final = {
    "memory": "brrr-core",
    "sqlite": "brrr-sqlite",
    "redis": "brrr-redis",
    "rediss": "brrr-redis",
    "redis+unix": "brrr-redis",
    "redis+cluster": "brrr-redis",
    "redis+sentinel": "brrr-redis",
    "valkey": "brrr-redis",
    "nats": "brrr-nats",
    "dynamo": "brrr-dynamo",
    "sqs": "brrr-sqs",
}
"""URL scheme to distribution."""

KNOWN_CODECS: Final = {
    "json": "brrr-core",
    "json-object": "brrr-core",
    "msgpack": "brrr-core",
    "pydantic": "brrr-pydantic",
}
"""Codec name to distribution."""

KNOWN_COMMANDS: Final = {
    "contract": "brrr-contract-kit",
}
"""Command to distribution."""
