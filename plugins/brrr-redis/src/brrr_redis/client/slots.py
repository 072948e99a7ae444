"""Hash slots of a cluster: the slot of a key, and a hash tag for a slot.

Redis hashes the text between the first `{` of a key and the next `}`. If that is empty or missing, it hashes the key:
https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags
"""

from binascii import crc_hqx
from functools import lru_cache
from itertools import count
from typing import Final

__all__ = ["SLOTS", "slot_of", "tag_of"]

SLOTS: Final = 16384


def slot_of(key: bytes) -> int:
    """Return the slot of a key."""
    return crc_hqx(_own_tag(key) or key, 0) % SLOTS  # CRC-16/XMODEM, by the cluster specification


def tag_of(key: bytes) -> bytes:
    """Return a hash tag that puts other keys into the slot of this one. It contains no `}`.

    It is the hash tag of the key, or the key if that can be a tag, or else a number with the same slot.
    """
    tag = _own_tag(key)
    if tag:
        return tag
    return _number_in(slot_of(key)) if b"}" in key else key


def _own_tag(key: bytes) -> bytes:
    begin = key.find(b"{")
    if begin < 0:
        return b""
    end = key.find(b"}", begin + 1)
    return key[begin + 1 : end] if end > 0 else b""


@lru_cache(maxsize=1024)
def _number_in(slot: int) -> bytes:
    # One number in 16,384 has the slot, so the search takes a few milliseconds.
    return next(text for number in count() if slot_of(text := b"%d" % number) == slot)
