"""Mask the secrets of a process' URLs in errors, logs and tracebacks."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final
from urllib.parse import unquote

from brrr_core.backend import mask_url
from brrr_core.backend.urls import ENV
from brrr_core.plugins import backend_manifest
from brrr_core.plugins.masking import masking
from brrr_core.plugins.opening import plan_backend
from brrr_core.plugins.options import VARIABLE, Field, fields_of
from brrr_core.plugins.roles import VARIABLES
from brrr_core.safe_text import Mask

__all__ = ["Secrets"]

URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(//|.*\?)", re.DOTALL)


class Secrets:
    """Masks the secrets of the URLs on a command line and in the environment.

    brrr's own errors contain no secrets, but errors of client libraries in a traceback may.

    Args:
        tokens: The command line.
    """

    def __init__(self, tokens: Sequence[str]) -> None:
        self._urls = _urls(tokens)
        self._masking: Mask | None = None

    def mask(self, text: str) -> str:
        """Replace each secret in a text by `****`: plain, percent-encoded, or escaped as in Python or JSON."""
        masked = self._masking or self._collect()
        for url in self._urls:
            text = text.replace(url, mask_url(url))
        return masked(text)

    def _collect(self) -> Mask:
        planned = {url: _planned_secrets(url) for url in self._urls}
        secrets = {each for url, known in planned.items() for each in (_guess_secrets(url) if known is None else known)}
        masked = masking(secrets)
        if None not in planned.values():  # else a module of handlers may still register the scheme
            self._masking = masked
        return masked


def _urls(tokens: Sequence[str]) -> list[str]:
    words = [token.partition("=")[2] if token.startswith("-") else token for token in tokens]
    named = {word for word in (*words, *map(os.environ.get, VARIABLES.values())) if word and URL.match(word)}
    return sorted(named, key=len, reverse=True)  # longest first: one URL may be the beginning of another


def _planned_secrets(url: str) -> list[str] | None:
    """Return the secrets of a URL's backend; None if brrr cannot plan the backend."""
    try:
        return plan_backend(url).secrets
    except Exception:  # noqa: BLE001 - a plugin's error must not hide the one that is about to be shown
        return None


def _guess_secrets(url: str) -> Iterator[str]:
    """Return every part that may be a secret of a URL that brrr cannot plan, and perhaps not even parse."""
    scheme, _, rest = url.partition(":")
    rest = rest.removeprefix("//")
    for at in re.finditer("@", rest):  # a password or an option may contain an unescaped @
        user, colon, password = rest[: at.start()].partition(":")
        yield unquote(password if colon else user)
    known = _fields(scheme.lower())
    for pair in re.split(r"[&#]", rest.partition("?")[2]):
        name, equals, value = (unquote(part) for part in pair.partition("="))
        name = name.replace("-", "_")
        if name.endswith(ENV) and VARIABLE.fullmatch(value):
            yield os.environ.get(value, "")
        elif name not in known or known[name].secret:
            yield value if equals else name


def _fields(scheme: str) -> Mapping[str, Field]:
    try:
        return fields_of(backend_manifest(scheme).options)
    except Exception:  # noqa: BLE001 - as above
        return {}
