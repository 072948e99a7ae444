"""Chooses the backends for the roles queue, store and cache, from arguments and environment variables."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from brrr_core.backend.contracts import Cache, Queue, Store
from brrr_core.backend.lifecycle import Backend, Roles
from brrr_core.backend.manifests import BackendManifest
from brrr_core.errors import BackendClosedError, RoleError, UrlError
from brrr_core.plugins.masking import masking
from brrr_core.plugins.opening import BackendPlan, plan_backend
from brrr_core.plugins.registry import REGISTRY
from brrr_core.safe_text import Mask

__all__ = ["ROLES", "VARIABLES", "ResolvedRoles", "Role", "offers", "resolve_roles"]

Role: TypeAlias = Literal["queue", "store", "cache"]

ROLES: Final[tuple[Role, ...]] = ("queue", "store", "cache")

VARIABLES: Final[Mapping[Role, str]] = {"queue": "BRRR_QUEUE", "store": "BRRR_STORE", "cache": "BRRR_CACHE"}
"""The environment variable with the URL of a role, used if the caller names none."""

Source: TypeAlias = BackendPlan | Backend
Named: TypeAlias = str | Backend | Queue | Store | Cache | None


class _OpenedRole(Backend):
    """Opened roles that the caller passed as objects. The caller closes them."""

    def __init__(self, made: object) -> None:
        self.made = made
        self._pid = os.getpid()
        self._roles = Roles(
            made if isinstance(made, Queue) else None,
            made if isinstance(made, Store) else None,
            made if isinstance(made, Cache) else None,
        )

    async def start(self) -> Roles:
        """Return the roles, which are open already."""
        return self.roles


@dataclass(frozen=True, slots=True)
class ResolvedRoles:
    """The backends that play the three roles.

    Attributes:
        queue: The backend that is the queue. Once it is open, use its `.queue`.
        store: The backend that is the store. Use its `.store`.
        cache: The backend that is the cache. Use its `.cache`.
        owned: The backends made here from URLs, without duplicates. The caller opens and closes them. Other backends
            were passed as objects, and belong to the code that made them.
        mask: Masks the secrets of the backends in a text.
    """

    queue: Backend
    store: Backend
    cache: Backend
    owned: tuple[Backend, ...]
    mask: Mask


def offers(manifest: BackendManifest, role: Role) -> bool:
    """Whether a backend offers a role, according to its manifest."""
    return getattr(manifest, role) is not None


def resolve_roles(
    queue: Named = None,
    store: Named = None,
    cache: Named = None,
    *,
    environ: Mapping[str, str] = os.environ,
) -> ResolvedRoles:
    """Choose the backend for each role, and make the backends that are named by URL. None of them is opened.

    If neither the caller nor the environment names the store, the queue's backend is the store too. If neither names
    the cache, the queue's backend is the cache if it offers that role, and the store's backend otherwise. Roles with
    equal URLs and options share one backend. All checks come before the first backend is imported.

    Args:
        queue: A URL, a backend, or an opened queue. None means the variable `BRRR_QUEUE`.
        store: A URL, a backend, or an opened store. None means the variable `BRRR_STORE`.
        cache: A URL, a backend, or an opened cache. None means the variable `BRRR_CACHE`.
        environ: The environment variables.

    Raises:
        UrlError: No queue is named, or a URL is malformed.
        OptionError: An option of a URL is wrong.
        RoleError: A backend does not offer its role. The error lists the installed schemes that do.
        PluginError: The plugin of a scheme cannot be used.
    """
    plans: list[BackendPlan] = []

    def source_of(role: Role, named: Named) -> Source | None:
        if named is None or named == "":
            named = environ.get(VARIABLES[role]) or None
        if named is None or isinstance(named, Backend):
            return named
        if isinstance(named, Queue | Store | Cache):
            return _OpenedRole(named)
        if not isinstance(named, str):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without types
            raise RoleError(
                f"the {role} is a {type(named).__name__}",
                remedy="Pass a URL, a backend, or an opened queue, store or cache.",
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

    backends = [*made, *(source for source in (for_queue, for_store, for_cache) if isinstance(source, Backend))]
    mask = masking(secret.reveal() for backend in backends for secret in backend.secrets)
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
        # It was made without a URL and is not open, so its roles are unknown. `Backend` refuses a missing role later.
        return True


def _wrong_role(role: Role, source: Source) -> RoleError:
    given = source.made if isinstance(source, _OpenedRole) else source
    name = f"{source.url.scheme}:" if isinstance(source, BackendPlan) else type(given).__name__
    has = [each for each in ROLES if _offers(source, each)]
    schemes = [row.name for row in REGISTRY.backends.rows() if row.manifest is not None and offers(row.manifest, role)]
    return RoleError(
        f"{name} is a {' and a '.join(has)}, not a {role}",
        remedy=f"Pass the URL of a {role} as the argument {role}, or set {VARIABLES[role]}. "
        f"Installed schemes that offer one: {', '.join(schemes) or 'none'}.",
    )
