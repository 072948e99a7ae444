"""Plugins: how backends, codecs and hooks are found, and how URLs and options become backends.

Importing this package reads no metadata and loads no plugin; that happens at the first question.
"""

from brrr_core.backend.contracts import CONTRACT_VERSION
from brrr_core.backend.manifests import (
    BackendManifest,
    CacheCapabilities,
    NoOptions,
    QueueCapabilities,
    StoreCapabilities,
)
from brrr_core.codec.manifests import CodecManifest
from brrr_core.plugins.opening import HookPlugin, load_codec, load_hooks, open_backend
from brrr_core.plugins.registry import REGISTRY, Listed
from brrr_core.plugins.roles import ResolvedRoles, resolve_roles
from brrr_core.plugins.urls import ParsedUrl, mask_url, parse_url

__all__ = [
    "CONTRACT_VERSION",
    "BackendManifest",
    "CacheCapabilities",
    "CodecManifest",
    "HookPlugin",
    "Listed",
    "NoOptions",
    "ParsedUrl",
    "QueueCapabilities",
    "ResolvedRoles",
    "StoreCapabilities",
    "backend_manifest",
    "codec_manifest",
    "list_backends",
    "list_codecs",
    "load_codec",
    "load_hooks",
    "mask_url",
    "open_backend",
    "parse_url",
    "register",
    "rescan",
    "resolve_roles",
    "unregister",
]

register = REGISTRY.register
unregister = REGISTRY.unregister
rescan = REGISTRY.rescan


def backend_manifest(scheme: str) -> BackendManifest:
    """What the backend of a URL scheme says of itself.

    Raises:
        PluginError: The scheme's plugin cannot be used: unknown, not installed, broken, clashing, or of another
            version of the contracts.
    """
    return REGISTRY.backends.find(scheme).manifest


def codec_manifest(name: str) -> CodecManifest:
    """What the codec of that name says of itself.

    Raises:
        PluginError: As for `backend_manifest`.
    """
    return REGISTRY.codecs.find(name).manifest


def list_backends() -> list[Listed[BackendManifest]]:
    """Every installed or registered URL scheme, the broken ones with their reasons. Imports no backend."""
    return REGISTRY.backends.rows()


def list_codecs() -> list[Listed[CodecManifest]]:
    """Every installed or registered codec, the broken ones with their reasons. Imports no codec."""
    return REGISTRY.codecs.rows()
