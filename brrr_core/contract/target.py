"""What is tested: a backend that can be opened again and again, and what its manifest says that it can do."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias, cast

from brrr_core.backend import Backend, Duration
from brrr_core.contract.registry import Role, Rule, declares
from brrr_core.errors import ContractError
from brrr_core.plugins import BackendManifest, backend_manifest, mask_url, open_backend, parse_url
from brrr_core.plugins.options import fields_of

__all__ = ["GRACE", "LEASE", "MakeBackend", "Target"]

LEASE: Final = 1.0
GRACE: Final = 5.0

MakeBackend: TypeAlias = Callable[..., Backend]
"""Makes a backend that is not open; called with `lease=seconds` if it has such a parameter."""


@dataclass(frozen=True, slots=True)
class Target:
    """A backend under test. Make it with `Target.at` or `Target.made_by`.

    Attributes:
        name: What the report calls it; holds no secret.
        manifest: What the backend says that it can do.
        make: Makes one.
        url: Its URL, None where it is made by a function.
        unreachable_url: A URL of the same scheme behind which nothing answers, if the author named one.
        lease: The lease in seconds that rules about a lease's end ask for.
        grace: Seconds that the backend may need beyond what a rule computes.
        preload: Modules that other processes import before they open the URL.
    """

    name: str
    manifest: BackendManifest
    make: MakeBackend = field(repr=False)
    url: str | None = field(default=None, repr=False)
    unreachable_url: str | None = field(default=None, repr=False)
    lease: float = LEASE
    grace: float = GRACE
    preload: tuple[str, ...] = ()

    @classmethod
    def at(
        cls,
        url: object,
        *,
        unreachable_url: str | None = None,
        lease: float = LEASE,
        grace: float = GRACE,
        preload: tuple[str, ...] = (),
    ) -> "Target":
        """The backend behind a URL, with the manifest that its plugin ships.

        Raises:
            ContractError: The URL is no text.
            BrrrError: It cannot be read, or its plugin cannot be used.
        """
        if not isinstance(url, str):
            raise ContractError(
                f"the URL to test is a {type(url).__name__}", remedy="Give a text like 'sqlite:///x.db'."
            )
        manifest = backend_manifest(parse_url(url).url.scheme)
        if unreachable_url is not None and parse_url(unreachable_url).url.scheme not in manifest.schemes:
            raise ContractError(
                f"the unreachable URL {mask_url(unreachable_url)} is of another scheme",
                remedy=f"Give one of {', '.join(manifest.schemes)}, behind which nothing answers.",
            )

        def make(lease: float | None = None) -> Backend:
            return open_backend(url) if lease is None else open_backend(url, lease=Duration(lease))

        return cls(mask_url(url, manifest.options), manifest, make, url, unreachable_url, lease, grace, preload)

    @classmethod
    def made_by(
        cls,
        make: object,
        *,
        unreachable_url: str | None = None,
        lease: float = LEASE,
        grace: float = GRACE,
    ) -> "Target":
        """The backend that a function makes, with the manifest that it carries.

        Raises:
            ContractError: It is no function, or what it makes is no `Backend` or has no manifest.
        """
        if not callable(make):
            raise ContractError(
                f"make_backend is a {type(make).__name__} and no function",
                remedy="Give a function that makes a new Backend, not open, each time it is called.",
            )
        made: object = make()
        if not isinstance(made, Backend):
            raise ContractError(
                f"make_backend made a {type(made).__name__} and no Backend", remedy="Let the class extend Backend."
            )
        manifest: object = made.manifest
        if not isinstance(manifest, BackendManifest):
            raise ContractError(
                f"the {type(made).__name__} that make_backend made carries no manifest",
                remedy="Set its `manifest` to the BackendManifest that the plugin ships.",
            )
        name = f"{type(made).__module__}.{type(made).__qualname__}"
        return cls(name, manifest, cast("MakeBackend", make), None, unreachable_url, lease, grace)

    def backend(self, *, short_lease: bool = False) -> Backend:
        """A new backend, not open.

        Args:
            short_lease: Ask for `lease` seconds where the backend can be asked; otherwise it has its own lease.
        """
        if short_lease and self.takes_lease:
            return self.make(lease=self.lease)
        return self.make()

    def offers(self, role: Role) -> bool:
        """Whether the manifest offers the role. Every backend has the role `backend`."""
        return role == "backend" or getattr(self.manifest, role, None) is not None

    def excuse(self, rule: Rule) -> str:
        """Why a rule does not apply by what the manifest declares; empty if it applies."""
        if rule.needs is not None and not declares(self.manifest, rule.needs):
            return f"the manifest does not declare {rule.needs}"
        if rule.unless is not None and declares(self.manifest, rule.unless):
            return f"the manifest declares {rule.unless}"
        return ""

    def shared(self, role: Role) -> bool:
        """Whether the manifest says that processes on one URL share the role."""
        return role in {"queue", "store", "cache"} and declares(self.manifest, f"{role}.shared")

    def address(self) -> str:
        """The URL, for other processes.

        Raises:
            ContractError: The backend is made by a function.
        """
        if self.url is None:
            raise ContractError(
                "the rule opens the backend in other processes, and it is made by a function",
                remedy="Give the kit a URL: what is declared `shared` or `durable` is tested with several processes.",
            )
        return self.url

    @property
    def takes_lease(self) -> bool:
        """Whether the backend can be asked for a lease."""
        if self.url is None:
            return "lease" in inspect.signature(self.make).parameters
        given = {name.replace("-", "_") for name, _ in parse_url(self.url).query}
        return "lease" in fields_of(self.manifest.options) and "lease" not in given
