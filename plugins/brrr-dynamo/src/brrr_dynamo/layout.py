"""What stands in the table.

| pk | sk | attributes | what it is |
| --- | --- | --- | --- |
| CALL HASH | `call`, `pending_returns`, `value` | `value` | a record, as PROTOCOL.md has it |
| CALL HASH | the same | `parts_id`, `parts_count`, `parts_size`, `parts_sha256` | one in parts: it has no `value` |
| `brrr_part/ID/NUMBER` | `part` | `part` | a part of such a record |
| `brrr_parts` | ID | `head_pk`, `head_sk`, `parts_count`, `begun_at` | whose parts those are, for whoever tidies up |
| `brrr_count/ROOT` | `count` | `count` | the counter of a root |

Any of them may have `expires_at`, in unix seconds; records that were swapped have `token`, by which a swap knows its
own. Other SDKs know `pk`, `sk` and `value`, and need no more.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, TypeAlias

from brrr_core.backend import Key
from brrr_core.errors import ArgumentError, CorruptBackendError

__all__ = [
    "EXPIRES",
    "INLINE",
    "ITEM_LIMIT",
    "LONGEST_KEY",
    "PK",
    "SK",
    "Head",
    "Item",
    "check_key",
    "decoded",
    "digest_of",
    "expired",
    "key_of",
    "name_of",
]

Item: TypeAlias = Mapping[str, Mapping[str, Any]]
"""An item as DynamoDB writes it: attribute to {type: value}."""

PK: Final = "pk"
SK: Final = "sk"
EXPIRES: Final = "expires_at"

ITEM_LIMIT: Final = 400 * 1024
"""Bytes of an item at most, its attributes' names included."""

INLINE: Final = 400_000
"""Bytes of a value that is kept in its own item at most: the longest key and every attribute fit beside it."""

LONGEST_KEY: Final = 2048
"""Bytes of a partition key at most."""


@dataclass(frozen=True, slots=True)
class Head:
    """What an item says that stands for a value in parts.

    Attributes:
        id: The random id of the parts, in hexadecimal.
        count: How many they are.
        size: The bytes of all.
        digest: Their SHA-256, by which a swap compares.
    """

    id: str
    count: int
    size: int
    digest: bytes

    def attributes(self) -> dict[str, dict[str, Any]]:
        """The attributes of the item."""
        return {
            "parts_id": {"S": self.id},
            "parts_count": {"N": str(self.count)},
            "parts_size": {"N": str(self.size)},
            "parts_sha256": {"B": self.digest},
        }


def digest_of(value: bytes) -> bytes:
    """By what large values are compared."""
    return sha256(value).digest()


def check_key(key: Key) -> None:
    """A call hash has 1 to 2,048 bytes. Raises `ArgumentError`."""
    size = len(key.call_hash)
    if not 0 < size <= LONGEST_KEY or (size * 4 > LONGEST_KEY and len(key.call_hash.encode()) > LONGEST_KEY):
        raise ArgumentError(
            f"a call hash of {size} characters cannot be a key of DynamoDB, which has 1 to {LONGEST_KEY} bytes",
            remedy="Use a codec with shorter hashes; brrr's own have some forty characters.",
        )


def key_of(key: Key) -> dict[str, dict[str, str]]:
    """The primary key of a record."""
    return {PK: {"S": key.call_hash}, SK: {"S": key.kind}}


def name_of(item: Item) -> tuple[str, str]:
    """The primary key of an item, as a pair."""
    return item[PK]["S"], item[SK]["S"]


def expired(item: Item) -> bool:
    """Whether an item counts as absent, though DynamoDB has not removed it yet: that may take days."""
    until = item.get(EXPIRES)
    return until is not None and "N" in until and float(until["N"]) <= time.time()


def decoded(item: Item) -> bytes | Head:
    """The value of a record's item, or where it is.

    Raises:
        CorruptBackendError: It is neither.
    """
    try:
        if "value" in item:
            value: bytes = item["value"]["B"]
            return value
        return Head(
            item["parts_id"]["S"],
            int(item["parts_count"]["N"]),
            int(item["parts_size"]["N"]),
            item["parts_sha256"]["B"],
        )
    except (KeyError, ValueError) as error:
        pk, sk = name_of(item)
        raise CorruptBackendError(
            f"the item {sk} of {pk!r} has no binary attribute `value`, and none of a value in parts",
            remedy="Something else writes to this table; give brrr one of its own.",
        ) from error
