"""The slots of a cluster: which one a key is in, and a hash tag for a slot.

Redis hashes what stands between a key's first `{` and the next `}`, where that is not empty, and else the whole key:
https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags
"""

from binascii import crc_hqx
from functools import lru_cache
from itertools import count
from typing import Final

__all__ = ["SLOTS", "slot_of", "tag_of"]

SLOTS: Final = 16384


def slot_of(key: bytes) -> int:
    """The slot of a key."""
    return crc_hqx(_own_tag(key) or key, 0) % SLOTS  # CRC-16/XMODEM, as the cluster specification has it


def tag_of(key: bytes) -> bytes:
    """A text without `}` that, as a hash tag, puts another key into the slot of this one.

    It is the key's own tag; or the key, where it can be one; or else a number that was searched for.
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
    # One number in 16,384 fits, so that this takes a few milliseconds.
    return next(text for number in count() if slot_of(text := b"%d" % number) == slot)
