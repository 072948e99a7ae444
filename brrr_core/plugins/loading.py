"""Loads objects that entry points and manifests name, and checks manifests."""

import re
from collections.abc import Sequence
from importlib import import_module
from typing import Final, TypeVar, cast

from brrr_core.backend.contracts import CONTRACT_VERSION
from brrr_core.backend.manifests import BackendManifest, CacheCapabilities, QueueCapabilities, StoreCapabilities
from brrr_core.codec import CodecManifest
from brrr_core.plugins.failures import broken, cannot_load, other_contract
from brrr_core.plugins.options import fields_of
from brrr_core.plugins.scanning import Claim, Origin
from brrr_core.safe_text import safe_repr, safe_str

__all__ = ["NAME_FORM", "ManifestT", "check_manifest", "import_object", "load_claim", "names_of", "normal_name"]

ManifestT = TypeVar("ManifestT", BackendManifest, CodecManifest)

NAME: Final = re.compile(r"[a-z][a-z0-9+.-]*")
TARGET: Final = re.compile(r"[\w.]+:[\w.]+")
NAME_FORM: Final = "a lower-case letter, then lower-case letters, digits, '+', '.' and '-'"

FIELDS: Final[dict[str, type]] = {
    "name": str,
    "summary": str,
    "example": str,
    "backend": str,
    "codec": str,
    "options": type,
    "queue": QueueCapabilities,
    "store": StoreCapabilities,
    "cache": CacheCapabilities,
}
"""The types of the fields of manifests. A role that is not offered is None."""


def names_of(manifest: BackendManifest | CodecManifest) -> tuple[str, ...]:
    """Return the names that a manifest claims: its schemes, or its one codec name."""
    return manifest.schemes if isinstance(manifest, BackendManifest) else (manifest.name,)


def load_claim(claim: Claim) -> object:
    """Load the object that an entry point names.

    Raises:
        BrokenPluginError: The object cannot be imported, or does not exist, or the entry point's group is misspelt.
        ContractVersionError: It cannot be imported because it was written for a newer contract version.
    """
    if claim.misspelt:
        raise broken(
            claim.origin,
            f"has {claim.name!r} in the entry-point group {claim.entry.group!r}, which brrr does not read; "
            f"the group is {claim.group!r}",
        )
    try:
        return claim.entry.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a module can raise anything when it is imported, SystemExit too
        raise cannot_load(claim.origin, claim.entry.value, error) from error


def import_object(origin: Origin, target: str) -> object:
    """Import the object that a manifest names as `module:attribute`.

    Args:
        origin: The plugin's origin, for the error.
        target: The name `module:attribute`.

    Raises:
        BrokenPluginError: The object cannot be imported, or does not exist.
        ContractVersionError: As for `load_claim`.
    """
    module, _, path = target.partition(":")
    try:
        found: object = import_module(module)
        for attribute in path.split("."):
            found = getattr(found, attribute)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # as above
        raise cannot_load(origin, target, error) from error
    return found


def check_manifest(kind: type[ManifestT], manifest: object, origin: Origin, claimed: str | None = None) -> ManifestT:
    """Check a manifest before the objects that it names are imported. Check its contract version first.

    Args:
        kind: The class that the manifest must have.
        manifest: The object to check.
        origin: The plugin's origin, for the error.
        claimed: The name of the entry point. The manifest must claim it too.

    Returns:
        The manifest.

    Raises:
        ContractVersionError: The manifest was written for another contract version.
        BrokenPluginError: It is not a manifest of that class, or it contradicts itself.
    """
    if not isinstance(manifest, kind):
        raise broken(origin, f"ships a {type(manifest).__name__} instead of a {kind.__name__}")
    contract = cast("object", manifest.contract)  # authors without a type checker
    if type(contract) is not int:
        raise broken(origin, f"has a manifest with contract={safe_repr(contract)}; write a whole number: contract=1")
    if contract != CONTRACT_VERSION:
        raise other_contract(origin, contract)
    contradiction = _contradiction_in(manifest)
    if contradiction:
        raise broken(origin, f"has a manifest {contradiction}")
    if claimed is not None and claimed not in names_of(manifest):
        claims = ", ".join(names_of(manifest))
        raise broken(
            origin, f"has an entry point {claimed!r}, but its manifest claims {claims}; write the same name in both"
        )
    return manifest


def normal_name(name: str) -> str:
    """Return the valid name that is nearest to an invalid one: `My_Server` becomes `my-server`."""
    return re.sub(r"[^a-z0-9+.-]+", "-", name.lower()).strip("-")


def _contradiction_in(manifest: BackendManifest | CodecManifest) -> str:
    for name, kind in FIELDS.items():
        value: object = getattr(manifest, name, None)
        if value is not None and not isinstance(value, kind):
            return f"with {name}={safe_repr(value)}, which is not a {kind.__name__}"
    return _contradiction_in_names(manifest) or _contradiction_in_content(manifest)


def _contradiction_in_names(manifest: BackendManifest | CodecManifest) -> str:
    names = cast("object", names_of(manifest))  # authors without a type checker
    if isinstance(names, str):
        return f"with schemes={names!r}, a str; write a tuple: schemes=({names!r},)"
    if not isinstance(names, tuple | list) or not names:
        return f"with schemes={names!r}; write a tuple of names, at least one: schemes=('name',)"
    for name in cast("Sequence[object]", names):
        if not isinstance(name, str) or not NAME.fullmatch(name):
            near = normal_name(name) if isinstance(name, str) else ""
            advice = f", such as {near!r}" if NAME.fullmatch(near) else ""
            return f"that claims {safe_repr(name)}; a name is {NAME_FORM}{advice}"
    return ""


def _contradiction_in_content(manifest: BackendManifest | CodecManifest) -> str:
    target = manifest.backend if isinstance(manifest, BackendManifest) else manifest.codec
    if not TARGET.fullmatch(target):
        return f"that names {target!r}, which is not of the form 'module:attribute'"
    if isinstance(manifest, BackendManifest):
        if manifest.queue is None and manifest.store is None and manifest.cache is None:
            return "that offers no role"
        try:
            fields_of(manifest.options)
        except Exception as error:  # noqa: BLE001 - unresolved annotations can raise anything
            return f"with options that cannot be read: {safe_str(error)}"
    return ""
