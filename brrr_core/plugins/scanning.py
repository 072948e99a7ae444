"""What the metadata of the installed distributions says: which of them claims which scheme, codec name or hook."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from brrr_core.safe_text import describe

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint

__all__ = ["BACKENDS", "CODECS", "HOOKS", "Claim", "Metadata", "Origin", "scan"]

BACKENDS: Final = "brrr.backends"
CODECS: Final = "brrr.codecs"
HOOKS: Final = "brrr.hooks"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a plugin comes from: the name and version of its distribution; without a name, from `register`."""

    distribution: str = ""
    version: str = ""

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}" if self.distribution else "a registered plugin"


@dataclass(frozen=True, slots=True)
class Claim:
    """One entry point of ours.

    Attributes:
        name: The URL scheme, the codec's name, or what a hook plugin calls itself.
        origin: Who claims it.
        entry: The entry point, which loads what it names.
    """

    name: str
    origin: Origin
    entry: "EntryPoint"


@dataclass(frozen=True, slots=True)
class Metadata:
    """What one scan found.

    Attributes:
        claims: By entry-point group; claims of one name stand side by side, none is preferred.
        unreadable: Where metadata could not be read, and why.
    """

    claims: dict[str, list[Claim]]
    unreadable: tuple[str, ...]

    def versions(self) -> dict[str, str]:
        """The distributions that claim anything, and their versions."""
        return {each.origin.distribution: each.origin.version for claims in self.claims.values() for each in claims}


def scan() -> Metadata:
    """Read the metadata of everything on `sys.path`, importing none of it.

    A distribution that is there twice (an editable install beside a stale copy) counts once: the first on the path is
    the one whose modules are imported. Metadata that cannot be read is set aside, so that it hurts nobody else.
    """
    # Imported here, so that a programme that names no backend by URL does not pay for it.
    from importlib.metadata import distributions

    claims: dict[str, list[Claim]] = {BACKENDS: [], CODECS: [], HOOKS: []}
    unreadable: list[str] = []
    seen: set[str] = set()
    for distribution in distributions():
        try:
            # The text is looked at before it is parsed: most distributions have nothing for us.
            if "brrr." not in (distribution.read_text("entry_points.txt") or ""):
                continue
            found = list(_claims_of(distribution, claims))
        except Exception as error:  # noqa: BLE001 - what a stranger's metadata raises is not to be foreseen
            unreadable.append(f"{getattr(distribution, '_path', 'a distribution')}: {describe(error)}")
            continue
        name = _normalized(found[0][1].origin.distribution) if found else ""
        if name not in seen:
            for group, claim in found:
                claims[group].append(claim)
        seen.add(name)
    return Metadata(claims, tuple(unreadable))


def _claims_of(distribution: "Distribution", groups: dict[str, list[Claim]]) -> Iterator[tuple[str, Claim]]:
    origin = Origin(distribution.metadata["Name"], distribution.version)
    if not origin.distribution:
        raise ValueError("its metadata names no distribution")
    for entry in dict.fromkeys(distribution.entry_points):
        if entry.group in groups:
            yield entry.group, Claim(entry.name, origin, entry)


def _normalized(name: str) -> str:
    """The name as the packaging specification (PEP 503) compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()
