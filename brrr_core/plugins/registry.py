"""The registry: every backend and codec plugin that this process can use, installed or registered.

Nothing is read before the first question, and no manifest is loaded before somebody asks for its name; so a broken
plugin that nobody uses hurts nobody.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from threading import RLock
from typing import Final, Generic

from brrr_core.backend.manifests import BackendManifest
from brrr_core.codec.manifests import CodecManifest
from brrr_core.errors import (
    AlreadyRegisteredError,
    BrokenPluginError,
    ClashError,
    NotInstalledError,
    PluginError,
    UnknownSchemeError,
)
from brrr_core.plugins.known import KNOWN_BACKENDS, KNOWN_CODECS
from brrr_core.plugins.loading import ManifestT, check_manifest, load_claim, names_of
from brrr_core.plugins.scanning import BACKENDS, CODECS, Claim, Metadata, Origin, scan

__all__ = ["REGISTRY", "Listed", "Plugin", "Registry", "Shelf"]


@dataclass(frozen=True, slots=True)
class Plugin(Generic[ManifestT]):
    """A manifest that was found, and where it comes from."""

    origin: Origin
    manifest: ManifestT


@dataclass(frozen=True, slots=True)
class Listed(Generic[ManifestT]):
    """A line of a listing.

    Attributes:
        name: The URL scheme, or the codec's name.
        distribution: Who claims it, several separated by commas where they clash; empty where it was registered.
        version: The distribution's version.
        manifest: What it says of itself, None where that cannot be used.
        error: Why it cannot, None where it can.
    """

    name: str
    distribution: str
    version: str
    manifest: ManifestT | None
    error: PluginError | None


class Shelf(Generic[ManifestT]):
    """The plugins of one kind, by name."""

    def __init__(
        self, registry: "Registry", kind: type[ManifestT], group: str, noun: str, known: Mapping[str, str]
    ) -> None:
        self._registry = registry
        self._kind: type[ManifestT] = kind
        self._group = group
        self._noun = noun
        self._known = known
        self._registered: dict[str, ManifestT] = {}
        self._loaded: dict[str, Plugin[ManifestT]] = {}

    def find(self, name: str) -> Plugin[ManifestT]:
        """The plugin of that name.

        Raises:
            UnknownSchemeError: Nobody claims the name; suggests the nearest, and lists what is installed.
            NotInstalledError: One of ours would claim it; gives the command that installs it.
            BrokenPluginError: Its manifest cannot be loaded, or is none; the cause is chained.
            ClashError: Several distributions claim it.
            ContractVersionError: It was written for another version of the contracts.
        """
        if name in self._registered:
            return Plugin(Origin(), self._registered[name])
        if name not in self._loaded:
            self._loaded[name] = self._load(name, self._claims(name))
        return self._loaded[name]

    def names(self) -> list[str]:
        """Every name that is claimed or registered, sorted."""
        claimed = {claim.name for claim in self._registry.metadata().claims[self._group]}
        return sorted(claimed | self._registered.keys())

    def rows(self) -> list[Listed[ManifestT]]:
        """Every plugin, the broken ones too, sorted by name."""
        return [self._list_one(name) for name in self.names()]

    def register(self, manifest: ManifestT) -> None:
        """Put a manifest on the shelf, under all its names or none."""
        check_manifest(self._kind, manifest, Origin())
        names = names_of(manifest)
        for name in names:
            if name in self._registered and self._registered[name] is not manifest:
                self._refuse(name, "another manifest, which was registered")
            if self._claims(name) and not self._ships(name, manifest):
                self._refuse(name, " and ".join(str(claim.origin) for claim in self._claims(name)))
        self._registered.update(dict.fromkeys(names, manifest))

    def unregister(self, manifest: ManifestT) -> None:
        """Take a registered manifest off the shelf; nothing happens where it is not on it."""
        for name in [name for name, registered in self._registered.items() if registered is manifest]:
            del self._registered[name]

    def forget(self) -> None:
        """Forget what was loaded from metadata."""
        self._loaded.clear()

    def _claims(self, name: str) -> list[Claim]:
        return [claim for claim in self._registry.metadata().claims[self._group] if claim.name == name]

    def _load(self, name: str, claims: list[Claim]) -> Plugin[ManifestT]:
        if not claims:
            raise self._missing(name)
        if len(claims) > 1:
            raise self._clash(name, claims)
        claim = claims[0]
        manifest = check_manifest(self._kind, load_claim(claim), claim.origin, claimed=name)
        return Plugin(claim.origin, manifest)

    def _ships(self, name: str, manifest: ManifestT) -> bool:
        """Whether the installed plugin of that name has this very manifest."""
        try:
            return self._load(name, self._claims(name)).manifest is manifest
        except PluginError:
            return False

    def _list_one(self, name: str) -> Listed[ManifestT]:
        try:
            plugin = self.find(name)
        except PluginError as error:
            origins = [claim.origin for claim in self._claims(name)]
            who = ", ".join(origin.distribution for origin in origins)
            return Listed(name, who, ", ".join(origin.version for origin in origins), None, error)
        return Listed(name, plugin.origin.distribution, plugin.origin.version, plugin.manifest, None)

    def _missing(self, name: str) -> PluginError:
        metadata = self._registry.metadata()
        unreadable = (
            f" Metadata that could not be read: {'; '.join(metadata.unreadable)}." if metadata.unreadable else ""
        )
        if name in self._known:
            distribution = self._known[name]
            version = metadata.versions().get(distribution)
            if version is None:
                what = f"the {self._noun} {name!r} comes with {distribution}, which is not installed"
                return NotInstalledError(what, remedy=f"Install it: pip install {distribution}.{unreadable}")
            what = f"the {self._noun} {name!r} comes with {distribution}, but not with the installed version {version}"
            return NotInstalledError(what, remedy=f"Upgrade it: pip install --upgrade {distribution}.{unreadable}")
        from difflib import get_close_matches  # only an error needs it

        installed: list[str] = self.names()
        near = get_close_matches(name, [*installed, *self._known], n=1)
        suggestion = f"Did you mean {near[0]!r}? " if near else ""
        return UnknownSchemeError(
            f"no plugin claims the {self._noun} {name!r}",
            remedy=f"{suggestion}Installed are {', '.join(installed) or 'none'}.{unreadable}",
        )

    def _clash(self, name: str, claims: list[Claim]) -> PluginError:
        who = " and ".join(f"{claim.origin} ({claim.entry.value})" for claim in claims)
        return ClashError(f"the {self._noun} {name!r} is claimed by {who}", remedy="Uninstall all of them but one.")

    def _refuse(self, name: str, by: str) -> None:
        raise AlreadyRegisteredError(
            f"the {self._noun} {name!r} is taken by {by}",
            remedy="Register the manifest under another name, or take that one away first.",
        )


class Registry:
    """The backends and codecs of this process, over one scan of the installed distributions."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._metadata: Metadata | None = None
        self.backends = Shelf(self, BackendManifest, BACKENDS, "scheme", KNOWN_BACKENDS)
        self.codecs = Shelf(self, CodecManifest, CODECS, "codec", KNOWN_CODECS)

    def metadata(self) -> Metadata:
        """What is installed: read once, at the first question."""
        with self._lock:
            if self._metadata is None:
                self._metadata = scan()
            return self._metadata

    def rescan(self) -> None:
        """Forget what is installed, so that the next question reads it anew. What was registered stays."""
        with self._lock:
            self._metadata = None
            self.backends.forget()
            self.codecs.forget()

    def register(self, manifest: BackendManifest | CodecManifest) -> None:
        """Make a plugin known without installing it: in frozen applications, in tests.

        All schemes of the manifest are taken, or none. The same manifest a second time changes nothing.

        Raises:
            AlreadyRegisteredError: Another manifest, registered or installed, claims one of its names.
            ContractVersionError: It was written for another version of the contracts.
            BrokenPluginError: It is no manifest, or contradicts itself.
        """
        with self._lock:
            if isinstance(manifest, BackendManifest):
                self.backends.register(manifest)
            elif isinstance(manifest, CodecManifest):  # pyright: ignore[reportUnnecessaryIsInstance]
                self.codecs.register(manifest)
            else:
                raise BrokenPluginError(
                    f"register was given a {type(manifest).__name__}",
                    remedy="Register a BackendManifest or a CodecManifest.",
                )

    def unregister(self, manifest: BackendManifest | CodecManifest) -> None:
        """Undo `register`. A manifest that is not registered is left alone."""
        with self._lock:
            if isinstance(manifest, BackendManifest):
                self.backends.unregister(manifest)
            else:
                self.codecs.unregister(manifest)


REGISTRY: Final = Registry()
"""The registry of this process."""
