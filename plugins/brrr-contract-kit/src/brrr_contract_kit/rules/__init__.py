"""The rules of the contract, one or a few families in each module: all of them, those of a role, and one by its id."""

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from brrr_contract_kit.registry import REGISTERED, ROLES, Rule
from brrr_core.errors import ContractError

__all__ = ["all_rules", "find", "rules_of"]


def all_rules() -> list[Rule]:
    """Return every rule, sorted by role and id."""
    return [each for role in ROLES for each in rules_of(role)]


def rules_of(role: str) -> list[Rule]:
    """Return the rules of a role, sorted by id.

    Raises:
        ContractError: The role does not exist.
    """
    if role not in ROLES:
        raise ContractError(f"the contract has no role {role!r}", remedy=f"Choose one of {', '.join(ROLES)}.")
    _load()
    return [each for _, each in sorted(REGISTERED.items()) if each.role == role]


def find(id_: str) -> Rule:
    """Return the rule with that id.

    Raises:
        ContractError: The id is unknown. The remedy suggests the nearest one.
    """
    _load()
    if id_ not in REGISTERED:
        from difflib import get_close_matches  # only an error needs it

        near = get_close_matches(id_, REGISTERED, n=1)
        raise ContractError(
            f"the contract has no rule {id_!r}",
            remedy=f"Did you mean {near[0]}?" if near else "docs/contract/ lists the rules.",
        )
    return REGISTERED[id_]


@cache
def _load() -> None:
    for module in iter_modules(__path__, f"{__name__}."):
        import_module(module.name)
