"""Root ids: fresh tokens, and the mark of a schedule that puts again what a queue may have lost."""

import base64
import secrets
from typing import Final

__all__ = ["new_redrive_id", "new_root_id", "redriven_at"]

_REDRIVE: Final = "redrive-"
_NEVER: Final = -1


def new_root_id() -> str:
    """A fresh root id: 128 random bits as 22 characters of URL-safe base64."""
    return base64.urlsafe_b64encode(secrets.token_bytes(16)).rstrip(b"=").decode()


def new_redrive_id(now: int) -> str:
    """A fresh root id under which every missing child that was put up to `now` (unix seconds) is put once more."""
    return f"{_REDRIVE}{now}-{new_root_id()}"


def redriven_at(root_id: str) -> int:
    """The unix seconds up to which puts are not trusted under this root; before all time for ordinary roots."""
    if not root_id.startswith(_REDRIVE):
        return _NEVER
    seconds = root_id[len(_REDRIVE) :].partition("-")[0]
    return int(seconds) if seconds.isdecimal() and len(seconds) < 20 else _NEVER
