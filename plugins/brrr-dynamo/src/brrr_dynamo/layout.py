"""Layout of the table.

| pk | sk | attributes | meaning |
| --- | --- | --- | --- |
| CALL HASH | `call`, `pending_returns`, `value` | `value` | a record of the protocol |
| CALL HASH | the same | `parts_id`, `parts_count`, `parts_size`, `parts_sha256` | head of a value in parts |
| `brrr_part/ID/NUMBER` | `part` | `part` | a part of such a value |
| `brrr_parts` | ID | `head_pk`, `head_sk`, `parts_count`, `begun_at` | index entry of these parts, to find orphans |
| `brrr_count/ROOT` | `count` | `count` | the counter of a root |

A head has no `value`. Every item may have `expires_at`, in unix seconds. Records that were swapped have `token`, by
which a swap recognises its own write. SDKs in other languages need only `pk`, `sk` and `value`.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, TypeAlias

from brrr_core.backend import Key
from brrr_core.errors import CorruptBackendError

__all__ = [
    "CONFLICT",
    "EXPIRES",
    "MAX_INLINE_BYTES",
    "MAX_ITEM_BYTES",
    "PK",
    "PRESENT",
    "SK",
    "Head",
    "Item",
    "digest_of",
    "is_expired",
    "primary_key_of",
    "record_key",
    "value_of",
]

Item: TypeAlias = Mapping[str, Mapping[str, Any]]
"""Item in DynamoDB's JSON: attribute to {type: value}."""

PK: Final = "pk"
SK: Final = "sk"
EXPIRES: Final = "expires_at"

PRESENT: Final = "(attribute_not_exists(expires_at) OR expires_at > :now)"
"""Condition that a record has not expired."""

CONFLICT: Final = "ConditionalCheckFailedException"
"""Code of the refusal of a write whose condition is false."""

MAX_ITEM_BYTES: Final = 400 * 1024
"""Largest item, including the names of its attributes."""

MAX_INLINE_BYTES: Final = 400_000
"""Largest value that is kept in its own item: the longest key and all attributes fit beside it."""


@dataclass(frozen=True, slots=True)
class Head:
    """Content of the item that stands for a value in parts.

    Attributes:
        id: Random id of the parts, in hexadecimal.
        count: Number of parts.
        size: Bytes of the value.
        digest: SHA-256 of the value, by which a swap compares.
    """

    id: str
    count: int
    size: int
    digest: bytes

    def attributes(self) -> dict[str, dict[str, Any]]:
        """Return the attributes of the item."""
        return {
            "parts_id": {"S": self.id},
            "parts_count": {"N": str(self.count)},
            "parts_size": {"N": str(self.size)},
            "parts_sha256": {"B": self.digest},
        }


def digest_of(value: bytes) -> bytes:
    """Return the SHA-256 of a value, by which large values are compared."""
    return sha256(value).digest()


def record_key(key: Key) -> dict[str, dict[str, str]]:
    """Return the primary key of a record."""
    return {PK: {"S": key.call_hash}, SK: {"S": key.kind}}


def primary_key_of(item: Item) -> tuple[str, str]:
    """Return the primary key of an item, as a pair."""
    return item[PK]["S"], item[SK]["S"]


def is_expired(item: Item) -> bool:
    """Whether an item has expired. It counts as absent, although DynamoDB may remove it days later."""
    until = item.get(EXPIRES)
    return until is not None and "N" in until and float(until["N"]) <= time.time()


def value_of(item: Item) -> bytes | Head:
    """Return the value of a record's item, or its head if the value is in parts.

    Raises:
        CorruptBackendError: The item holds neither.
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
        pk, sk = primary_key_of(item)
        raise CorruptBackendError(
            f"the item {sk} of {pk!r} has neither a binary `value` nor the attributes of a value in parts",
            remedy="Another program writes to this table. Give brrr its own table.",
        ) from error
