"""Makes backends from URLs, codecs from names, and hooks from entry points. Backends are made closed."""

import inspect
from dataclasses import dataclass, replace

from brrr_core.backend.lifecycle import Backend
from brrr_core.backend.manifests import BackendManifest
from brrr_core.backend.options import BackendUrl, Secret
from brrr_core.backend.urls import parse_url
from brrr_core.codec import Codec
from brrr_core.errors import BrokenPluginError, BrrrError, CodecError, OptionError
from brrr_core.plugins.loading import import_object, load_claim
from brrr_core.plugins.options import fields_of, read_options
from brrr_core.plugins.registry import REGISTRY, Plugin
from brrr_core.plugins.scanning import HOOKS, Origin

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
        backend = _call(origin, self.manifest.backend, make, self.url, self.options)
        if not isinstance(backend, Backend):
            raise _not_made(origin, self.manifest.backend, f"returned a {type(backend).__name__}, not a Backend")
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
        raise _not_made(plugin.origin, target, f"returned a {type(made).__name__}, not a Codec")
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
        BrokenPluginError: A plugin cannot be loaded. The error names it, and chains the cause.
    """
    claims = sorted(REGISTRY.metadata().claims[HOOKS], key=lambda claim: (claim.name, claim.origin.distribution))
    return [HookPlugin(claim.name, claim.origin.distribution, load_claim(claim)) for claim in claims]


def _call(origin: Origin, target: str, make: object, *arguments: object) -> object:
    if not callable(make):
        raise _not_made(origin, target, "cannot be called")
    try:
        return make(*arguments)
    except BrrrError:
        raise
    except Exception as error:
        # Only the chained cause shows the error's text: a client library may have put the password into it.
        raise _not_made(origin, target, f"raised a {type(error).__name__}") from error


def _not_made(origin: Origin, target: str, what: str) -> BrokenPluginError:
    return BrokenPluginError(
        f"{target} of {origin} {what}", remedy="Try another version, or report the problem to its authors."
    )
