"""Which backend plays which role: queue, store and cache, from what a user names and what the environment adds."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from brrr_core.backend.contracts import Cache, Queue, Store
from brrr_core.backend.lifecycle import Backend, Roles
from brrr_core.backend.manifests import BackendManifest
from brrr_core.errors import BackendClosedError, RoleError, UrlError
from brrr_core.plugins.masking import masking
from brrr_core.plugins.opening import BackendPlan, plan_backend
from brrr_core.plugins.registry import REGISTRY

__all__ = ["ROLES", "VARIABLES", "ResolvedRoles", "Role", "offers", "resolve_roles"]

Role: TypeAlias = Literal["queue", "store", "cache"]

ROLES: Final[tuple[Role, ...]] = ("queue", "store", "cache")

VARIABLES: Final[Mapping[Role, str]] = {"queue": "BRRR_QUEUE", "store": "BRRR_STORE", "cache": "BRRR_CACHE"}
"""The environment variable that names a role's URL where the caller does not."""

Source: TypeAlias = BackendPlan | Backend
Named: TypeAlias = str | Backend | Queue | Store | Cache | None


class _Given(Backend):
    """Opened roles that the caller made one by one, and closes."""

    def __init__(self, made: object) -> None:
        self.made = made
        self._pid = os.getpid()
        self._roles = Roles(
            made if isinstance(made, Queue) else None,
            made if isinstance(made, Store) else None,
            made if isinstance(made, Cache) else None,
        )

    async def start(self) -> Roles:
        """Nothing: they are open."""
        return self.roles

    async def stop(self) -> None:
        """Nothing: they belong to the caller."""


@dataclass(frozen=True, slots=True)
class ResolvedRoles:
    """The backends that play the three roles.

    Attributes:
        queue: Use its `.queue` once it is open.
        store: Use its `.store`.
        cache: Use its `.cache`.
        owned: Those that were made here from URLs, each once: the caller opens and closes them. What is not among
            them came as an object, and belongs to whoever made it.
        mask: Masks the secrets of their URLs in a text.
    """

    queue: Backend
    store: Backend
    cache: Backend
    owned: tuple[Backend, ...]
    mask: Callable[[str], str]


def offers(manifest: BackendManifest, role: Role) -> bool:
    """Whether a backend has a role, by its manifest."""
    return getattr(manifest, role) is not None


def resolve_roles(
    queue: Named = None,
    store: Named = None,
    cache: Named = None,
    *,
    environ: Mapping[str, str] = os.environ,
) -> ResolvedRoles:
    """Decide which backend plays which role, and make those that are named by URL. None is opened.

    A role that neither the caller nor the environment names is played by the queue's backend where that offers it; the
    cache otherwise by the store's. Roles whose URLs mean the same, options included, share one backend. All is checked
    before any backend is imported.

    Args:
        queue: A URL, a backend, or an opened queue; None takes `BRRR_QUEUE`.
        store: The same; None takes `BRRR_STORE`.
        cache: The same; None takes `BRRR_CACHE`.
        environ: Where the variables are looked up.

    Raises:
        UrlError: No queue is named, or a URL cannot be read.
        OptionError: An option of a URL is wrong.
        RoleError: A backend does not offer its role; lists the installed schemes that do.
        PluginError: A scheme's plugin cannot be used.
    """
    plans: list[BackendPlan] = []

    def source_of(role: Role, named: Named) -> Source | None:
        if named is None or named == "":
            named = environ.get(VARIABLES[role]) or None
        if named is None or isinstance(named, Backend):
            return named
        if isinstance(named, Queue | Store | Cache):
            return _Given(named)
        if not isinstance(named, str):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without types
            raise RoleError(
                f"the {role} is a {type(named).__name__}",
                remedy="Give a URL, a backend, or an opened queue, store or cache.",
            )
        plan = plan_backend(named)
        if plan in plans:
            return plans[plans.index(plan)]
        plans.append(plan)
        return plan

    for_queue = source_of("queue", queue)
    if for_queue is None:
        raise UrlError("no queue is named", remedy="Pass a URL like 'sqlite:///brrr.db', or set BRRR_QUEUE.")
    for_store = source_of("store", store) or for_queue
    for_cache = source_of("cache", cache) or (for_queue if _offers(for_queue, "cache") else for_store)
    for role, source in zip(ROLES, (for_queue, for_store, for_cache), strict=True):
        if not _offers(source, role):
            raise _wrong_role(role, source)

    made = [plan.make() for plan in plans]

    def backend_of(source: Source) -> Backend:
        return source if isinstance(source, Backend) else made[plans.index(source)]

    mask = masking(secret for plan in plans for secret in plan.secrets)
    return ResolvedRoles(backend_of(for_queue), backend_of(for_store), backend_of(for_cache), tuple(made), mask)


def _offers(source: Source, role: Role) -> bool:
    manifest = source.manifest
    if manifest is not None:
        return offers(manifest, role)
    if isinstance(source, BackendPlan):
        return False
    try:
        return getattr(source.roles, role) is not None
    except BackendClosedError:
        # Made by hand and not open: what it offers shows, and is refused where it must be, when it is used.
        return True


def _wrong_role(role: Role, source: Source) -> RoleError:
    given = source.made if isinstance(source, _Given) else source
    name = f"{source.url.scheme}:" if isinstance(source, BackendPlan) else type(given).__name__
    has = [each for each in ROLES if _offers(source, each)]
    schemes = [row.name for row in REGISTRY.backends.rows() if row.manifest is not None and offers(row.manifest, role)]
    return RoleError(
        f"{name} is a {' and a '.join(has)}, not a {role}",
        remedy=f"Name a {role} by its URL, as the argument {role} or in {VARIABLES[role]}; "
        f"installed schemes that offer one: {', '.join(schemes) or 'none'}.",
    )
