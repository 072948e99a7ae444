"""Makes backends from URLs, codecs from names, and hooks from entry points. Backends are made closed."""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import FunctionType

from brrr_core.backend.lifecycle import Backend
from brrr_core.backend.manifests import BackendManifest
from brrr_core.backend.options import BackendUrl, Secret
from brrr_core.backend.urls import parse_url
from brrr_core.codec import Codec
from brrr_core.errors import BrrrError, CodecError, OptionError
from brrr_core.plugins.failures import broken, raised
from brrr_core.plugins.loading import import_object, load_claim
from brrr_core.plugins.masking import masking
from brrr_core.plugins.options import fields_of, read_options
from brrr_core.plugins.registry import REGISTRY, Plugin
from brrr_core.plugins.scanning import HOOKS, Claim, Origin
from brrr_core.safe_text import Mask

__all__ = ["BackendPlan", "HookPlugin", "load_codec", "load_hooks", "open_backend", "plan_backend"]


@dataclass(frozen=True, slots=True)
class BackendPlan:
    """The data from which a backend is made. Equal plans can share one backend.

    Attributes:
        plugin: The plugin that provides the backend.
        url: The URL, without its options.
        options: An instance of the manifest's schema.
    """

    plugin: Plugin[BackendManifest]
    url: BackendUrl
    options: object

    @property
    def manifest(self) -> BackendManifest:
        """The manifest, which is known before the backend is imported."""
        return self.plugin.manifest

    @property
    def secrets(self) -> list[str]:
        """The secrets to mask: password, secret options, and a username without a password, which may be a token."""
        values = [self.url.password, *(getattr(self.options, name, None) for name in fields_of(self.manifest.options))]
        secrets = [value.reveal() for value in values if isinstance(value, Secret)]
        if self.url.password is None and self.url.username is not None:
            secrets.append(self.url.username)
        return secrets

    def make(self) -> Backend:
        """Import the backend and make it. It is not open yet.

        Raises:
            BrokenPluginError: It cannot be imported or made, or is not a `Backend`. The cause is chained.
            BrrrError: The backend refuses the URL or the options.
        """
        origin = self.plugin.origin
        make = import_object(origin, self.manifest.backend)
        backend = _call(origin, self.manifest.backend, make, self.url, self.options, mask=masking(self.secrets))
        if not isinstance(backend, Backend):
            raise broken(origin, f"has a {self.manifest.backend} that made a {type(backend).__name__}, not a Backend")
        backend.manifest = self.manifest
        backend.secrets = (*backend.secrets, *map(Secret, self.secrets))
        return backend


@dataclass(frozen=True, slots=True)
class HookPlugin:
    """An installed hook plugin: the name of its entry point, its distribution, and the object that it names."""

    name: str
    distribution: str
    plugin: object


def plan_backend(url: str, /, **options: object) -> BackendPlan:
    """Read a URL and its options without importing a backend.

    Raises:
        UrlError: The URL is malformed.
        OptionError: An option is unknown, repeated or missing, or has the wrong type.
        PluginError: The scheme's plugin cannot be used. `PluginGroup.find` lists the reasons.
    """
    parsed = parse_url(url)
    scheme = parsed.url.scheme
    plugin = REGISTRY.backends.find(scheme)
    values, password = read_options(scheme, plugin.manifest.options, parsed.query, options)
    if password is None:
        return BackendPlan(plugin, parsed.url, values)
    if parsed.url.password is not None:
        raise OptionError(
            f"{scheme}: has a password in the URL and in password_env", remedy="Set it once, with password_env."
        )
    return BackendPlan(plugin, replace(parsed.url, password=password), values)


def open_backend(url: str, /, **options: object) -> Backend:
    """Return the backend of a URL. It is not open yet: open and close it with `async with`.

    Its `manifest` describes its roles and capabilities.

    Args:
        url: A URL like `sqlite:///brrr.db` or `redis://localhost/0?password_env=REDIS_PASSWORD`.
        options: More options, under the same names as in the URL.

    Raises:
        UrlError: The URL is malformed.
        OptionError: An option is unknown, repeated or missing, or has the wrong type.
        PluginError: The scheme's plugin cannot be used.
    """
    return plan_backend(url, **options).make()


def load_codec(codec: str | Codec) -> Codec:
    """Return the codec of that name. A codec object is returned unchanged.

    Raises:
        PluginError: The plugin of that name cannot be used.
        CodecError: The argument is neither a name nor a codec, or the codec was written for another SDK.
    """
    if hasattr(codec, "encode_call") and not isinstance(codec, type):
        return _check_codec(codec)
    if not isinstance(codec, str):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without a type checker
        raise CodecError(
            f"a {type(codec).__name__} is not a codec", remedy="Pass a name like 'json', or a Codec object."
        )
    plugin = REGISTRY.codecs.find(codec)
    target = plugin.manifest.codec
    made = _call(plugin.origin, target, import_object(plugin.origin, target))
    if not isinstance(made, Codec):
        raise broken(plugin.origin, f"has a {target} that made a {type(made).__name__}, not a Codec")
    return _check_codec(made)


def _check_codec(codec: object) -> Codec:
    """Refuse a codec of another SDK early. Otherwise it would fail when the first result is read."""
    faults: list[str] = []
    if not isinstance(codec, Codec):
        faults.append("does not derive from brrr_core.codec.Codec")
    try:
        inspect.signature(codec.decode_return).bind("task", b"", returns=object)  # type: ignore[attr-defined]
    except (AttributeError, TypeError, ValueError):
        faults.append("has no `decode_return` with the keyword `returns`")
    if isinstance(codec, Codec) and not faults:
        return codec
    raise CodecError(
        f"the codec {type(codec).__qualname__} {' and '.join(faults)}",
        remedy="Derive it from brrr_core.codec.Codec, and change two lines: "
        "`def decode_return(self, task_name, payload, *, returns=Any):` and, if it needs keyword arguments, "
        "`keyword_only = True` in its class. Without the second line, brrr passes arguments by position if possible.",
    )


def load_hooks() -> list[HookPlugin]:
    """Load the installed plugins of the entry-point group `brrr.hooks`, sorted by name.

    Raises:
        BrokenPluginError: A plugin cannot be loaded, or has no hook. The error names it, and chains the cause.
    """
    claims = sorted(REGISTRY.metadata().claims[HOOKS], key=lambda claim: (claim.name, claim.origin.distribution))
    return [HookPlugin(claim.name, claim.origin.distribution, _load_hook(claim)) for claim in claims]


def _load_hook(claim: Claim) -> object:
    plugin = load_claim(claim)
    marked = list(_marked_functions(plugin))
    if not marked:
        raise broken(
            claim.origin, f"has the hooks {claim.name!r}, but {claim.entry.value} has no function marked by hookimpl"
        )
    if isinstance(plugin, type) and any(isinstance(function, FunctionType) for function in marked):
        raise broken(
            claim.origin, f"has the hooks {claim.name!r}, but {claim.entry.value} is a class; name an instance"
        )
    return plugin


def _marked_functions(plugin: object) -> Iterator[object]:
    from brrr_core.hooks import PROJECT  # imported here, because a client loads no hooks

    for name in dir(plugin):
        # A static attribute: a property of the plugin does not run here.
        found: object = inspect.getattr_static(plugin, name, None)
        function: object = getattr(found, "__func__", found)  # of a static method
        if getattr(function, "__dict__", {}).get(f"{PROJECT}_impl") is not None:
            yield found


def _call(origin: Origin, target: str, make: object, *arguments: object, mask: Mask = str) -> object:
    if not callable(make):
        raise broken(origin, f"has a {target} that cannot be called")
    try:
        return make(*arguments)
    except (BrrrError, KeyboardInterrupt):
        raise
    except BaseException as error:  # SystemExit too
        raise raised(origin, target, error, mask=mask) from error
