"""The registration of rules: the id, the demand and the conditions of each."""

import inspect
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, TypeAlias, cast, get_args

from brrr_core.backend import BackendManifest, CacheCapabilities, QueueCapabilities, StoreCapabilities
from brrr_core.errors import ContractError

__all__ = ["LONG", "REGISTERED", "ROLES", "Function", "Role", "Rule", "declares", "rule"]

Role: TypeAlias = Literal["queue", "store", "cache", "steps", "backend", "codec"]
ROLES: Final = cast("tuple[Role, ...]", get_args(Role))

Function: TypeAlias = Callable[[Any], Awaitable[None]]
"""The body of a rule. It takes the context of its role, returns if the rule holds, and raises if it does not."""

ID: Final = re.compile(r"(QUEUE|STORE|CACHE|STEPS|BACKEND|CODEC)-[A-Z]+-[0-9]{2}")
PARTS: Final = re.compile(r"(?P<demand>.+?)\n\nWhy: (?P<why>.+?)\n\nTest: (?P<test>.+)", re.DOTALL)

CAPABILITIES: Final = frozenset(
    f"{role}.{field.name}"
    for role, kind in (("queue", QueueCapabilities), ("store", StoreCapabilities), ("cache", CacheCapabilities))
    for field in fields(kind)
    if field.type is bool
)
"""The capabilities that a rule may need, like `queue.delay`."""

LONG: Final = 300.0
"""The limit in seconds of rules that wait for leases. The lease of some backends cannot be set."""

PAGES: Final = "https://github.com/brrr-core/brrr/blob/main/"

REGISTERED: Final[dict[str, "Rule"]] = {}
"""The rules of the modules that are imported, by their ids."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One demand of the contract.

    Attributes:
        id: Stable id, like `QUEUE-LEASE-03`.
        demand: What must hold, in one line.
        why: Why the engine needs it.
        test: How it is tested.
        run: The function that tests it.
        needs: The capability without which the rule does not apply.
        unless: The capability with which the rule does not apply. The rule demands that operations which need it are
            refused.
        pair: The rule opens two backends on one URL. It does not apply if these share no data and the manifest does
            not declare `shared`.
        processes: The rule opens the URL in other processes.
        limit: Seconds after which the rule fails; multiplied if the grace is longer than its default.
    """

    id: str
    demand: str
    why: str
    test: str
    run: Function
    needs: str | None = None
    unless: str | None = None
    pair: bool = False
    processes: bool = False
    limit: float = 60

    @property
    def role(self) -> Role:
        """Role that the rule tests."""
        return cast("Role", self.id.split("-")[0].lower())

    @property
    def family(self) -> str:
        """Id without its number. Rules of one family share a page."""
        return self.id.rpartition("-")[0]

    @property
    def base(self) -> bool:
        """Whether the rule applies to every backend of its role. A base rule cannot be skipped.

        The manifest does not declare steps: a backend has this role if it offers them.
        """
        return self.needs is None and self.unless is None and not self.pair

    @property
    def page(self) -> str:
        """Page and anchor that explain the rule."""
        return f"docs/contract/{self.family.lower()}.md#{self.id.lower()}"

    @property
    def link(self) -> str:
        """Address of the page, for readers without a checkout of brrr."""
        return f"{PAGES}{self.page}"


def rule(
    id_: str,
    *,
    needs: str | None = None,
    unless: str | None = None,
    pair: bool = False,
    processes: bool = False,
    limit: float = 60,
) -> Callable[[Function], Function]:
    """Register a function as a rule. Its docstring has three parts: the demand, `Why:` and `Test:`.

    Raises:
        ContractError: The id is taken or ill-formed, the capability does not exist, or a part of the docstring is
            missing.
    """

    def register(run: Function) -> Function:
        parts = PARTS.fullmatch(inspect.getdoc(run) or "")
        if not ID.fullmatch(id_) or id_ in REGISTERED:
            raise ContractError(f"the rule id {id_!r} is taken or invalid", remedy="Choose a free one.")
        if parts is None:
            raise ContractError(f"the docstring of rule {id_} lacks a part", remedy="Write a demand, Why: and Test:.")
        for capability in (needs, unless):
            if capability is not None and capability not in CAPABILITIES:
                raise ContractError(
                    f"rule {id_} names the unknown capability {capability!r}",
                    remedy=f"Choose one of {', '.join(sorted(CAPABILITIES))}.",
                )
        texts = {name: " ".join(text.split()) for name, text in parts.groupdict().items()}
        REGISTERED[id_] = Rule(
            id_, **texts, run=run, needs=needs, unless=unless, pair=pair, processes=processes, limit=limit
        )
        return run

    return register


def declares(manifest: BackendManifest, capability: str) -> bool:
    """Whether a manifest declares a capability, like `queue.delay`."""
    role, _, name = capability.partition(".")
    return bool(getattr(getattr(manifest, role), name, False))
