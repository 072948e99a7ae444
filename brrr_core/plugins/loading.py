"""Loads objects that entry points and manifests name, and checks manifests."""

import re
from importlib import import_module
from typing import Final, TypeVar

from brrr_core.backend.contracts import CONTRACT_VERSION
from brrr_core.backend.manifests import BackendManifest
from brrr_core.codec import CodecManifest
from brrr_core.errors import BrokenPluginError, ContractVersionError, PluginError
from brrr_core.plugins.options import fields_of
from brrr_core.plugins.scanning import Claim, Origin
from brrr_core.safe_text import describe, safe_str

__all__ = ["ManifestT", "check_manifest", "import_object", "load_claim", "names_of"]

ManifestT = TypeVar("ManifestT", BackendManifest, CodecManifest)

NAME: Final = re.compile(r"[a-z][a-z0-9+.-]*")
TARGET: Final = re.compile(r"[\w.]+:[\w.]+")


def names_of(manifest: BackendManifest | CodecManifest) -> tuple[str, ...]:
    """Return the names that a manifest claims: its schemes, or its one codec name."""
    return manifest.schemes if isinstance(manifest, BackendManifest) else (manifest.name,)


def load_claim(claim: Claim) -> object:
    """Load the object that an entry point names.

    Raises:
        BrokenPluginError: The object cannot be imported, or does not exist.
    """
    try:
        return claim.entry.load()
    except (Exception, SystemExit) as error:
        raise _cannot_load(claim.origin, claim.entry.value, error) from error


def import_object(origin: Origin, target: str) -> object:
    """Import the object that a manifest names as `module:attribute`.

    Args:
        origin: The plugin's origin, for the error.
        target: The name `module:attribute`.

    Raises:
        BrokenPluginError: The object cannot be imported, or does not exist.
    """
    module, _, path = target.partition(":")
    try:
        found: object = import_module(module)
        for attribute in path.split("."):
            found = getattr(found, attribute)
    except Exception as error:
        raise _cannot_load(origin, target, error) from error
    return found


def check_manifest(kind: type[ManifestT], manifest: object, origin: Origin, claimed: str | None = None) -> ManifestT:
    """Check a manifest before the objects that it names are imported.

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
        raise _bad_manifest(origin, f"ships a {type(manifest).__name__} instead of a {kind.__name__}")
    if manifest.contract != CONTRACT_VERSION:
        raise _other_contract(origin, manifest.contract)
    contradiction = _contradiction_in(manifest)
    if contradiction:
        raise _bad_manifest(origin, f"has a manifest {contradiction}")
    if claimed is not None and claimed not in names_of(manifest):
        claims = ", ".join(names_of(manifest))
        raise _bad_manifest(origin, f"has an entry point {claimed!r}, but its manifest claims {claims}")
    return manifest


def _contradiction_in(manifest: BackendManifest | CodecManifest) -> str:
    names = names_of(manifest)
    if not names or not all(NAME.fullmatch(name) for name in names):
        return f"that claims {names!r}, which are not lower-case names"
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


def _cannot_load(origin: Origin, target: str, error: BaseException) -> PluginError:
    return BrokenPluginError(
        f"{origin} is installed, but its {target} cannot be loaded: {describe(error)}",
        remedy="Reinstall it with its dependencies, or uninstall it.",
    )


def _bad_manifest(origin: Origin, what: str) -> PluginError:
    return BrokenPluginError(f"{origin} {what}", remedy="Try another version, or report the problem to its authors.")


def _other_contract(origin: Origin, contract: object) -> PluginError:
    plugin_is_older = isinstance(contract, int) and contract < CONTRACT_VERSION
    outdated = (origin.distribution or "the plugin") if plugin_is_older else "brrr-core"
    return ContractVersionError(
        f"{origin} was written for contract version {contract}, but this brrr-core has version {CONTRACT_VERSION}",
        remedy=f"Upgrade {outdated}: pip install --upgrade {outdated}.",
    )
