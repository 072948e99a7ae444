"""The registry: every backend and codec plugin that this process can use, installed or registered.

It reads the installed metadata at the first lookup, and loads a manifest only when its name is looked up. So a broken
plugin does not disturb programs that do not use it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from threading import RLock
from typing import Final, Generic

from brrr_core.backend.manifests import BackendManifest
from brrr_core.codec import CodecManifest
from brrr_core.errors import (
    AlreadyRegisteredError,
    BrokenPluginError,
    ClashError,
    NotInstalledError,
    PluginError,
    UnknownSchemeError,
)
from brrr_core.plugins.failures import broken
from brrr_core.plugins.loading import NAME_FORM, ManifestT, check_manifest, load_claim, names_of, normal_name
from brrr_core.plugins.scanning import (
    BACKENDS,
    CODECS,
    KNOWN_BACKENDS,
    KNOWN_CODECS,
    Claim,
    Metadata,
    Origin,
    normal_distribution,
    scan,
)

__all__ = ["REGISTRY", "Listed", "Plugin", "PluginGroup", "Registry"]


@dataclass(frozen=True, slots=True)
class Plugin(Generic[ManifestT]):
    """A manifest and its origin."""

    origin: Origin
    manifest: ManifestT


@dataclass(frozen=True, slots=True)
class Listed(Generic[ManifestT]):
    """A row of a listing.

    Attributes:
        name: The URL scheme, or the name of the codec.
        distribution: The distribution that claims the name. If several claim it, they are separated by commas. Empty if
            the manifest was registered.
        version: The version of the distribution.
        manifest: The manifest, or None if it cannot be used.
        error: The reason why it cannot be used, or None.
    """

    name: str
    distribution: str
    version: str
    manifest: ManifestT | None
    error: PluginError | None


class PluginGroup(Generic[ManifestT]):
    """The plugins of one kind (backends or codecs), by name."""

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
        """Return the plugin of that name.

        Raises:
            UnknownSchemeError: No plugin claims the name. The error suggests the nearest and lists the installed names.
            NotInstalledError: A plugin of this project claims the name. The error shows the command that installs it.
            BrokenPluginError: The manifest cannot be loaded, or is not a manifest. The cause is chained.
            ClashError: Several distributions claim the name, or the name belongs to a distribution of this project
                that does not claim it, and another one does.
            ContractVersionError: The plugin was written for another contract version.
        """
        if name in self._registered:
            return Plugin(Origin(), self._registered[name])
        if name not in self._loaded:
            self._loaded[name] = self._load(name, self._claims(name))
        return self._loaded[name]

    def names(self) -> list[str]:
        """Return every claimed or registered name, sorted."""
        claimed = {claim.name for claim in self._registry.metadata().claims[self._group]}
        return sorted(claimed | self._registered.keys())

    def rows(self) -> list[Listed[ManifestT]]:
        """Return a row for every plugin, sorted by name, broken ones and those that lose their name included."""
        rows: list[Listed[ManifestT]] = []
        for name in self.names():
            rows.append(self._row(name))
            rows.extend(self._losers(name))
        return rows

    def register(self, manifest: ManifestT) -> None:
        """Register a manifest under all of its names, or under none if one is taken."""
        check_manifest(self._kind, manifest, Origin())
        names = names_of(manifest)
        for name in names:
            if name in self._registered and self._registered[name] is not manifest:
                self._refuse(name, "another registered manifest")
            if self._claims(name) and not self._is_installed(name, manifest):
                self._refuse(name, " and ".join(str(claim.origin) for claim in self._claims(name)))
        self._registered.update(dict.fromkeys(names, manifest))

    def unregister(self, manifest: ManifestT) -> None:
        """Remove a registered manifest. If it is not registered, do nothing."""
        for name in [name for name, registered in self._registered.items() if registered is manifest]:
            del self._registered[name]

    def forget(self) -> None:
        """Forget the manifests that were loaded from metadata."""
        self._loaded.clear()

    def _claims(self, name: str) -> list[Claim]:
        """Return the claims of a name; those whose group is misspelt only if there are no others."""
        claims = [claim for claim in self._registry.metadata().claims[self._group] if claim.name == name]
        return [claim for claim in claims if not claim.misspelt] or claims

    def _load(self, name: str, claims: list[Claim]) -> Plugin[ManifestT]:
        if not claims:
            raise self._missing(name)
        # A name of this project belongs to its distribution: installing another one never takes it away.
        claims = [claim for claim in claims if self._owns(name, claim)] or claims
        if len(claims) > 1:
            raise self._clash(name, claims)
        if name in self._known and not self._owns(name, claims[0]):
            raise self._not_owner(name, claims[0])
        claim = claims[0]
        manifest = check_manifest(self._kind, load_claim(claim), claim.origin, claimed=name)
        return Plugin(claim.origin, manifest)

    def _is_installed(self, name: str, manifest: ManifestT) -> bool:
        """Whether this very object is the manifest of the installed plugin of that name."""
        try:
            return self._load(name, self._claims(name)).manifest is manifest
        except PluginError:
            return False

    def _row(self, name: str) -> Listed[ManifestT]:
        try:
            plugin = self.find(name)
        except PluginError as error:
            origins = [claim.origin for claim in self._claims(name)]
            who = ", ".join(origin.distribution for origin in origins)
            return Listed(name, who, ", ".join(origin.version for origin in origins), None, error)
        return Listed(name, plugin.origin.distribution, plugin.origin.version, plugin.manifest, None)

    def _owns(self, name: str, claim: Claim) -> bool:
        return normal_distribution(claim.origin.distribution) == self._known.get(name)

    def _losers(self, name: str) -> Iterator[Listed[ManifestT]]:
        """Yield a row for each claim that is not used because the owner of the name is installed too."""
        claims = self._claims(name)
        if any(self._owns(name, claim) for claim in claims):
            for claim in claims:
                if not self._owns(name, claim):
                    origin, error = claim.origin, self._not_owner(name, claim)
                    yield Listed(name, origin.distribution, origin.version, None, error)

    def _missing(self, name: str) -> PluginError:
        metadata = self._registry.metadata()
        for claim in metadata.claims[self._group]:
            if normal_name(claim.name) == normal_name(name):
                return broken(claim.origin, f"claims the {self._noun} {claim.name!r}; a {self._noun} is {NAME_FORM}")
        unreadable = (
            f" Metadata that could not be read: {'; '.join(metadata.unreadable)}." if metadata.unreadable else ""
        )
        if name in self._known:
            distribution = self._known[name]
            version = metadata.versions().get(distribution)
            if version is None:
                what = f"the {self._noun} {name!r} comes with {distribution}, which is not installed"
                return NotInstalledError(what, remedy=f"Install it: pip install {distribution}.{unreadable}")
            what = f"the {self._noun} {name!r} comes with {distribution}, but the installed version {version} lacks it"
            return NotInstalledError(what, remedy=f"Upgrade it: pip install --upgrade {distribution}.{unreadable}")
        from difflib import get_close_matches  # imported for errors only

        installed: list[str] = self.names()
        near = get_close_matches(name, [*installed, *self._known], n=1)
        suggestion = f"Did you mean {near[0]!r}? " if near else ""
        return UnknownSchemeError(
            f"no plugin claims the {self._noun} {name!r}",
            remedy=f"{suggestion}Installed are {', '.join(installed) or 'none'}.{unreadable}",
        )

    def _clash(self, name: str, claims: list[Claim]) -> PluginError:
        who = " and ".join(f"{claim.origin} ({claim.entry.value})" for claim in claims)
        return ClashError(
            f"the {self._noun} {name!r} is claimed by {who}", remedy="Keep one of them, and uninstall the others."
        )

    def _not_owner(self, name: str, claim: Claim) -> PluginError:
        owner = self._known[name]
        return ClashError(
            f"the {self._noun} {name!r} belongs to {owner}, and {claim.origin} ({claim.entry.value}) claims it too",
            remedy=f"Use {owner}, or ask the authors of {claim.origin.distribution} for another {self._noun}.",
        )

    def _refuse(self, name: str, by: str) -> None:
        raise AlreadyRegisteredError(
            f"the {self._noun} {name!r} is taken by {by}",
            remedy="Register the manifest under another name, or unregister or uninstall the other one first.",
        )


class Registry:
    """The backends and codecs of this process, from one scan of the installed distributions."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._metadata: Metadata | None = None
        self.backends = PluginGroup(self, BackendManifest, BACKENDS, "scheme", KNOWN_BACKENDS)
        self.codecs = PluginGroup(self, CodecManifest, CODECS, "codec", KNOWN_CODECS)

    def metadata(self) -> Metadata:
        """Return the metadata of the installed plugins. It is read once, at the first lookup."""
        with self._lock:
            if self._metadata is None:
                self._metadata = scan()
            return self._metadata

    def rescan(self) -> None:
        """Forget the metadata, so that the next lookup reads it again. Registered manifests stay."""
        with self._lock:
            self._metadata = None
            self.backends.forget()
            self.codecs.forget()

    def register(self, manifest: BackendManifest | CodecManifest) -> None:
        """Register a manifest, as `brrr_core.register` describes."""
        with self._lock:
            if isinstance(manifest, BackendManifest):
                self.backends.register(manifest)
            elif isinstance(manifest, CodecManifest):  # pyright: ignore[reportUnnecessaryIsInstance]
                self.codecs.register(manifest)
            else:
                raise BrokenPluginError(
                    f"`register` received a {type(manifest).__name__}",
                    remedy="Pass a BackendManifest or a CodecManifest.",
                )

    def unregister(self, manifest: BackendManifest | CodecManifest) -> None:
        """Undo `register`. If the manifest is not registered, do nothing."""
        with self._lock:
            if isinstance(manifest, BackendManifest):
                self.backends.unregister(manifest)
            else:
                self.codecs.unregister(manifest)


REGISTRY: Final = Registry()
"""The registry of this process."""
