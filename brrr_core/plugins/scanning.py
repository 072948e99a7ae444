"""The schemes, codecs, hooks and commands that distributions claim: the installed ones, and those of this project."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from brrr_core.safe_text import describe

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint

__all__ = [
    "BACKENDS",
    "CODECS",
    "COMMANDS",
    "HOOKS",
    "KNOWN_BACKENDS",
    "KNOWN_CODECS",
    "KNOWN_COMMANDS",
    "Claim",
    "Metadata",
    "Origin",
    "normal_distribution",
    "scan",
]

BACKENDS: Final = "brrr.backends"
CODECS: Final = "brrr.codecs"
HOOKS: Final = "brrr.hooks"
COMMANDS: Final = "brrr.commands"
GROUPS: Final = (BACKENDS, CODECS, HOOKS, COMMANDS)

PREFIX: Final = "br"
"""The beginning of every entry-point group that may be a misspelling of one of `GROUPS`."""

ALIKE: Final = 0.8
"""How much the name of an entry-point group must be like one of `GROUPS` to count as a misspelling of it, up to 1."""

EDITABLE: Final = re.compile(r'"editable":\s*true')
"""In the `direct_url.json` of a distribution: its files are those of a checkout, which its author can correct."""

# The claims of the project's own distributions. If one is not installed, errors say how to install it.
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
    "board": "brrr-board",
    "contract": "brrr-contract-kit",
    "explain": "brrr-explain",
    "forget": "brrr-explain",
    "redrive": "brrr-explain",
}
"""Command to distribution."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The distribution of a plugin. The name is empty if the plugin was registered.

    Attributes:
        distribution: Its name.
        version: Its version.
        summary: Its summary.
        editable: Whether it is installed from a checkout, so the reader is probably its author.
    """

    distribution: str = ""
    version: str = ""
    summary: str = ""
    editable: bool = False

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}" if self.distribution else "a registered plugin"


@dataclass(frozen=True, slots=True)
class Claim:
    """An entry point of one of brrr's groups.

    Attributes:
        name: The URL scheme, or the name of the codec, the hook plugin or the command.
        origin: The distribution that claims the name.
        entry: The entry point; it can load the object that it names.
    """

    name: str
    origin: Origin
    entry: "EntryPoint"

    @property
    def group(self) -> str:
        """The group that it is meant for, even if its name is misspelt; empty if it is not meant for brrr."""
        return _meant_group(self.entry.group)

    @property
    def misspelt(self) -> bool:
        """Whether its group is misspelt, so that brrr does not use it."""
        return self.entry.group not in GROUPS


@dataclass(frozen=True, slots=True)
class Metadata:
    """The result of a scan.

    Attributes:
        claims: The claims of each entry-point group. It keeps all claims of one name, without preference, and those
            whose group is misspelt.
        unreadable: The distributions with unreadable metadata, and the reasons.
    """

    claims: dict[str, list[Claim]]
    unreadable: tuple[str, ...]

    def versions(self) -> dict[str, str]:
        """Return the version of each distribution that has a claim."""
        return {each.origin.distribution: each.origin.version for claims in self.claims.values() for each in claims}


def scan() -> Metadata:
    """Read the metadata of every distribution on `sys.path`, without importing any.

    If a distribution is there twice, such as an editable install and a stale copy, only the first counts: Python
    imports the modules of that one. Unreadable metadata is set aside, so that other plugins keep working.
    """
    # Imported here, so that a program that names no backend by URL does not pay for it.
    from importlib.metadata import distributions

    claims: dict[str, list[Claim]] = {group: [] for group in GROUPS}
    unreadable: list[str] = []
    seen: set[str] = set()
    for distribution in distributions():
        try:
            # Search the text before parsing it: most distributions have no entry point for brrr.
            if "brrr" not in (distribution.read_text("entry_points.txt") or ""):
                continue
            found = list(_claims_of(distribution))
        except Exception as error:  # noqa: BLE001 - foreign metadata can raise anything
            unreadable.append(f"{getattr(distribution, '_path', 'a distribution')}: {describe(error)}")
            continue
        name = normal_distribution(found[0].origin.distribution) if found else ""
        if name not in seen:
            for claim in found:
                claims[claim.group].append(claim)
        seen.add(name)
    return Metadata(claims, tuple(unreadable))


def _claims_of(distribution: "Distribution") -> Iterator[Claim]:
    metadata = distribution.metadata  # parsed at each access
    summary = metadata["Summary"] if "Summary" in metadata else ""  # noqa: SIM401 - its protocol lacks `get`
    editable = EDITABLE.search(distribution.read_text("direct_url.json") or "") is not None
    origin = Origin(metadata["Name"], metadata["Version"], summary, editable)
    if not origin.distribution:
        raise ValueError("its metadata names no distribution")
    for entry in dict.fromkeys(distribution.entry_points):
        claim = Claim(entry.name, origin, entry)
        if claim.group:
            yield claim


def _meant_group(written: str) -> str:
    if written in GROUPS or not written.casefold().startswith(PREFIX):
        return written if written in GROUPS else ""
    from difflib import get_close_matches  # imported for errors only

    return next(iter(get_close_matches(written.casefold(), GROUPS, n=1, cutoff=ALIKE)), "")


def normal_distribution(name: str) -> str:
    """Return the name in the normalised form of PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()
