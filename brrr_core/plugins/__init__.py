"""Plugins: finds backends, codecs and hooks, and turns URLs and options into backends.

Importing this package reads no metadata and loads no plugin. Both happen at the first lookup.
"""

from brrr_core.backend.manifests import BackendManifest
from brrr_core.codec import CodecManifest
from brrr_core.plugins.opening import HookPlugin, load_codec, load_hooks, open_backend
from brrr_core.plugins.registry import REGISTRY, Listed
from brrr_core.plugins.roles import ResolvedRoles, resolve_roles

__all__ = [
    "HookPlugin",
    "Listed",
    "ResolvedRoles",
    "backend_manifest",
    "codec_manifest",
    "list_backends",
    "list_codecs",
    "load_codec",
    "load_hooks",
    "open_backend",
    "register",
    "rescan",
    "resolve_roles",
    "unregister",
]

unregister = REGISTRY.unregister
rescan = REGISTRY.rescan


def register(manifest: BackendManifest | CodecManifest) -> None:
    """Register a plugin without installing it, for frozen applications and tests.

    The manifest is registered under all of its names, or under none. Registering it twice changes nothing.

    Raises:
        AlreadyRegisteredError: Another manifest, registered or installed, claims one of its names.
        ContractVersionError: The manifest was written for another contract version.
        BrokenPluginError: The argument is not a manifest, or it contradicts itself.
    """
    REGISTRY.register(manifest)


def backend_manifest(scheme: str) -> BackendManifest:
    """Return the manifest of the backend of a URL scheme.

    Raises:
        PluginError: The plugin of the scheme cannot be used: it is unknown, not installed, broken, claimed twice, or
            written for another contract version.
    """
    return REGISTRY.backends.find(scheme).manifest


def codec_manifest(name: str) -> CodecManifest:
    """Return the manifest of the codec of that name.

    Raises:
        PluginError: As for `backend_manifest`.
    """
    return REGISTRY.codecs.find(name).manifest


def list_backends() -> list[Listed[BackendManifest]]:
    """List every installed or registered URL scheme, with the reason if its plugin is broken. Imports no backend."""
    return REGISTRY.backends.rows()


def list_codecs() -> list[Listed[CodecManifest]]:
    """List every installed or registered codec, with the reason if its plugin is broken. Imports no codec."""
    return REGISTRY.codecs.rows()
