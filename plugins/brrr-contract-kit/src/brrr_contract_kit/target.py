"""The target of a run: a way to make backends, with their manifest."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from secrets import token_hex
from types import NoneType, UnionType
from typing import Final, TypeAlias, Union, cast, get_args, get_origin, get_type_hints

from brrr_contract_kit.registry import Role, Rule, declares
from brrr_core import open_backend
from brrr_core.backend import Backend, BackendManifest, Duration, Key, Swap, mask_url, parse_url
from brrr_core.errors import BrrrError, ContractError
from brrr_core.plugins.masking import masking

__all__ = [
    "DATA",
    "GRACE",
    "LEASE",
    "MakeBackend",
    "Readdress",
    "Relayed",
    "Target",
    "offers_steps",
    "option_types",
    "secrets_of",
    "shares_data",
]

LEASE: Final = 1.0
GRACE: Final = 5.0

DATA: Final[tuple[Role, ...]] = ("queue", "store", "cache")
"""The roles that hold data."""

MakeBackend: TypeAlias = Callable[..., Backend]
"""Makes a closed backend; called with `lease=seconds` if it has such a parameter."""

Relayed: TypeAlias = Callable[[str, str], str]
"""Returns the URL for a server at other addresses; called with the URL and the addresses, separated by commas."""

Readdress: TypeAlias = Callable[[bytes, Mapping[str, str]], bytes]
"""Replaces addresses in an answer; called with the answer, and with the address of the relay of each server."""


@dataclass(frozen=True, slots=True)
class Target:
    """A backend under test. Make it with `Target.at` or `Target.made_by`.

    Attributes:
        name: Its name in the report; contains no secret.
        manifest: The manifest, which declares the capabilities.
        make: Makes a closed backend.
        url: Its URL, None if a function makes it.
        unreachable_url: A URL of the same scheme behind which no server answers, if the author gives one.
        lease: The lease in seconds for rules that wait until a lease expires.
        grace: Extra seconds that the backend may take.
        preload: Modules that other processes import before they open the URL.
        server: Host and port of its server, if the URL does not show them; several are separated by commas.
        relayed: Returns a URL with another address of the server, if a replaced address in the URL is not enough.
        secrets: The passwords and tokens of its URLs.
        readdress: Returns an answer of a server with other addresses, for servers that announce each other.
        fresh_url: Returns the URL of a new place each time, where nothing was created yet.
    """

    name: str
    manifest: BackendManifest
    make: MakeBackend = field(repr=False)
    url: str | None = field(default=None, repr=False)
    unreachable_url: str | None = field(default=None, repr=False)
    lease: float = LEASE
    grace: float = GRACE
    preload: tuple[str, ...] = ()
    server: str | None = None
    relayed: Relayed | None = field(default=None, repr=False)
    readdress: Readdress | None = field(default=None, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    fresh_url: Callable[[], str] | None = field(default=None, repr=False)

    @classmethod
    def at(
        cls,
        url: object,
        *,
        unreachable_url: str | None = None,
        lease: float = LEASE,
        grace: float = GRACE,
        preload: tuple[str, ...] = (),
        server: str | None = None,
        relayed: Relayed | None = None,
        readdress: Readdress | None = None,
    ) -> "Target":
        """Return the target of a URL, with the manifest that its plugin ships.

        Raises:
            ContractError: The URL is not a text, or `unreachable_url` has another scheme.
            BrrrError: The URL cannot be parsed, or its plugin cannot be used.
        """
        if not isinstance(url, str):
            raise ContractError(
                f"the URL to test is a {type(url).__name__}", remedy="Pass a text like 'sqlite:///x.db'."
            )
        manifest = _manifest_of(open_backend(url))
        if unreachable_url is not None and parse_url(unreachable_url).url.scheme not in manifest.schemes:
            raise ContractError(
                f"the unreachable URL {mask_url(unreachable_url)} has another scheme",
                remedy=f"Give a URL with the scheme {' or '.join(manifest.schemes)} behind which no server answers.",
            )

        def make(lease: float | None = None) -> Backend:
            return open_backend(url) if lease is None else open_backend(url, lease=Duration(lease))

        return cls(
            mask_url(url, manifest.options),
            manifest,
            make,
            url,
            unreachable_url,
            lease,
            grace,
            preload,
            server,
            relayed,
            readdress,
            (*secrets_of(url), *secrets_of(unreachable_url)),
        )

    @classmethod
    def made_by(
        cls,
        make: object,
        *,
        unreachable_url: str | None = None,
        lease: float = LEASE,
        grace: float = GRACE,
    ) -> "Target":
        """Return the target of a function that makes backends, with the manifest that these carry.

        Raises:
            ContractError: The argument is not a function, or its result is not a `Backend` with a manifest.
        """
        if not callable(make):
            raise ContractError(
                f"make_backend is a {type(make).__name__}, not a function",
                remedy="Let the fixture return a function that makes a new, closed Backend at each call.",
            )
        made: object = make()
        if not isinstance(made, Backend):
            raise ContractError(
                f"make_backend returned a {type(made).__name__}, not a Backend", remedy="Let the class extend Backend."
            )
        name = f"{type(made).__module__}.{type(made).__qualname__}"
        return cls(name, _manifest_of(made), cast("MakeBackend", make), None, unreachable_url, lease, grace)

    def mask(self, text: str) -> str:
        """Return a text with `****` for every secret of the target."""
        return masking(self.secrets)(text)

    def backend(self, *, short_lease: bool = False) -> Backend:
        """Return a new, closed backend.

        Args:
            short_lease: Set its lease to `lease` seconds, if it has that option.
        """
        if short_lease and self.takes_lease:
            return self.make(lease=self.lease)
        return self.make()

    def fresh(self) -> "Target":
        """Return the target of a place where nothing was created yet, or this one if the author gives none."""
        if self.fresh_url is None:
            return self
        return Target.at(self.fresh_url(), lease=self.lease, grace=self.grace, preload=self.preload)

    def offers(self, role: Role) -> bool:
        """Whether the manifest offers the role. Every backend has the role `backend`.

        For `steps`, whether it offers the three roles that they combine. `offers_steps` looks for the steps.
        """
        if role == "steps":
            return all(self.offers(each) for each in DATA)
        return role == "backend" or getattr(self.manifest, role, None) is not None

    def excuse(self, rule: Rule) -> str:
        """Return the reason why the manifest exempts the backend from a rule; empty if the rule applies."""
        if rule.role == "steps" and not self.offers("steps"):
            return "the manifest does not offer queue, store and cache"
        if rule.needs is not None and not declares(self.manifest, rule.needs):
            return f"the manifest does not declare {rule.needs}"
        if rule.unless is not None and declares(self.manifest, rule.unless):
            return f"the manifest declares {rule.unless}"
        return ""

    def shared(self, role: Role) -> bool:
        """Whether the manifest declares that processes on one URL share the role."""
        if role == "steps":
            return all(self.shared(each) for each in DATA)
        return role in DATA and declares(self.manifest, f"{role}.shared")

    def address(self) -> str:
        """Return the URL for other processes.

        Raises:
            ContractError: A function makes the backend, so it has no URL.
        """
        if self.url is None:
            raise ContractError(
                "the rule opens the backend in other processes, but the backend has no URL",
                remedy="Give the kit a URL: it tests `shared` and `durable` with several processes.",
            )
        return self.url

    @property
    def takes_lease(self) -> bool:
        """Whether the kit can set the lease of the backend."""
        if self.url is None:
            return "lease" in inspect.signature(self.make).parameters
        given = {name.replace("-", "_") for name, _ in parse_url(self.url).query}
        return "lease" in option_types(self.manifest) and "lease" not in given


def secrets_of(url: object) -> list[str]:
    """Return the secrets of a URL. If it cannot be opened and may have secrets, return the whole URL too."""
    if not isinstance(url, str):
        return []
    try:
        return [each.reveal() for each in open_backend(url).secrets]
    except Exception:  # noqa: BLE001 - a plugin can raise anything
        return [url, *_parsed_secrets(url)] if mask_url(url) != url else []


def _parsed_secrets(url: str) -> list[str]:
    try:
        parsed = parse_url(url)
    except BrrrError:
        return []
    given = [*(value for _, value in parsed.query), parsed.url.password]
    return [each.reveal() for each in given if each is not None]


async def offers_steps(target: Target) -> bool:
    """Whether an open backend offers steps."""
    async with target.backend() as backend:
        return backend.roles.steps is not None


async def shares_data(target: Target) -> bool:
    """Whether a second backend on the same URL sees records or messages of the first."""
    token = f"brrr-kit-{token_hex(8)}"
    try:
        async with target.backend() as one, target.backend() as other:
            return await _share_records(one, other, token) or await _share_messages(one, other, token)
    except BrrrError:  # a second backend that cannot be opened shares nothing
        return False


async def _share_records(one: Backend, other: Backend, token: str) -> bool:
    if one.roles.store is None:
        return False
    key = Key("value", token)
    await one.store.write([(key, b"probe")])
    seen = await other.store.read([key])
    await one.store.swap([Swap(key, b"probe", None)])
    return seen == [b"probe"]


async def _share_messages(one: Backend, other: Backend, token: str) -> bool:
    if one.roles.queue is None:
        return False
    await one.queue.put(token, [b"probe"])
    seen = await other.queue.receive(token, limit=1, wait=0)
    await other.queue.ack(seen)
    await one.queue.ack(await one.queue.receive(token, limit=1, wait=0))
    return bool(seen)


def _manifest_of(backend: Backend) -> BackendManifest:
    manifest: object = backend.manifest
    if not isinstance(manifest, BackendManifest):
        raise ContractError(
            f"the {type(backend).__name__} that make_backend returned carries no manifest",
            remedy="Set its `manifest` to the BackendManifest that the plugin ships.",
        )
    return manifest


def option_types(manifest: BackendManifest) -> dict[str, object]:
    """Return the types of the options of a backend by their names, each without `| None`."""
    hints: dict[str, object] = get_type_hints(manifest.options)
    return {each.name: _without_none(hints[each.name]) for each in fields(manifest.options)}


def _without_none(hint: object) -> object:
    if not isinstance(hint, UnionType) and get_origin(hint) is not Union:
        return hint
    (kind,) = (each for each in get_args(hint) if each is not NoneType)
    return kind
