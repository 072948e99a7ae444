"""From the name of a thing in a plugin to the thing, and whether a manifest is one that we can work with."""

import re
from importlib import import_module
from typing import Final, TypeVar

from brrr_core.backend.contracts import CONTRACT_VERSION
from brrr_core.backend.manifests import BackendManifest
from brrr_core.codec.manifests import CodecManifest
from brrr_core.errors import BrokenPluginError, ContractVersionError, PluginError
from brrr_core.plugins.options import fields_of
from brrr_core.plugins.scanning import Claim, Origin
from brrr_core.safe_text import describe, safe_str

__all__ = ["ManifestT", "check_manifest", "import_object", "load_claim", "names_of"]

ManifestT = TypeVar("ManifestT", BackendManifest, CodecManifest)

NAME: Final = re.compile(r"[a-z][a-z0-9+.-]*")
TARGET: Final = re.compile(r"[\w.]+:[\w.]+")


def names_of(manifest: BackendManifest | CodecManifest) -> tuple[str, ...]:
    """The schemes, or the one codec name, that a manifest claims."""
    return manifest.schemes if isinstance(manifest, BackendManifest) else (manifest.name,)


def load_claim(claim: Claim) -> object:
    """What an entry point names.

    Raises:
        BrokenPluginError: It cannot be imported, or is not there.
    """
    try:
        return claim.entry.load()
    except Exception as error:
        raise _broken(claim.origin, claim.entry.value, error) from error


def import_object(origin: Origin, target: str) -> object:
    """What a manifest names as `module:attribute`.

    Args:
        origin: Whose it is, for the error.
        target: The name.

    Raises:
        BrokenPluginError: It cannot be imported, or is not there.
    """
    module, _, path = target.partition(":")
    try:
        found: object = import_module(module)
        for attribute in path.split("."):
            found = getattr(found, attribute)
    except Exception as error:
        raise _broken(origin, target, error) from error
    return found


def check_manifest(kind: type[ManifestT], manifest: object, origin: Origin, claimed: str | None = None) -> ManifestT:
    """Make sure that a manifest can be worked with, before anything that it names is imported.

    Args:
        kind: What it must be.
        manifest: What was found.
        origin: Whose it is, for the error.
        claimed: The entry point's name, which the manifest must claim as well.

    Returns:
        The manifest.

    Raises:
        ContractVersionError: It was written for another version of the contracts.
        BrokenPluginError: It is no manifest of that kind, or contradicts itself.
    """
    if not isinstance(manifest, kind):
        raise _faulty(origin, f"ships a {type(manifest).__name__} where a {kind.__name__} should be")
    if manifest.contract != CONTRACT_VERSION:
        raise _other_contract(origin, manifest.contract)
    fault = _fault_of(manifest)
    if fault:
        raise _faulty(origin, f"has a manifest {fault}")
    if claimed is not None and claimed not in names_of(manifest):
        claims = ", ".join(names_of(manifest))
        raise _faulty(origin, f"has an entry point {claimed!r}, but its manifest claims {claims}")
    return manifest


def _fault_of(manifest: BackendManifest | CodecManifest) -> str:
    names = names_of(manifest)
    if not names or not all(NAME.fullmatch(name) for name in names):
        return f"that claims {names!r}, which are no names in lower case"
    target = manifest.backend if isinstance(manifest, BackendManifest) else manifest.codec
    if not TARGET.fullmatch(target):
        return f"that names {target!r}, which is no 'module:attribute'"
    if isinstance(manifest, BackendManifest):
        if manifest.queue is None and manifest.store is None and manifest.cache is None:
            return "that offers no role"
        try:
            fields_of(manifest.options)
        except Exception as error:  # noqa: BLE001 - annotations that do not resolve raise anything
            return f"with options that cannot be read: {safe_str(error)}"
    return ""


def _broken(origin: Origin, target: str, error: Exception) -> PluginError:
    return BrokenPluginError(
        f"{origin} is installed, but its {target} cannot be loaded: {describe(error)}",
        remedy="Install it again with what it depends on, or uninstall it.",
    )


def _faulty(origin: Origin, what: str) -> PluginError:
    return BrokenPluginError(f"{origin} {what}", remedy="Tell its authors; another version of it may be right.")


def _other_contract(origin: Origin, contract: object) -> PluginError:
    plugin_is_behind = isinstance(contract, int) and contract < CONTRACT_VERSION
    behind = (origin.distribution or "the plugin") if plugin_is_behind else "brrr-core"
    return ContractVersionError(
        f"{origin} was written for contract version {contract}, and this brrr-core has version {CONTRACT_VERSION}",
        remedy=f"Upgrade {behind}: pip install --upgrade {behind}.",
    )
