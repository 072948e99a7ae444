"""The errors of a plugin that cannot be used, in words for its author or its users.

If the plugin is installed from a checkout, the reader is probably its author. The error then tells the author to
correct it. Otherwise it tells the user to reinstall the plugin or to report the problem.
"""

import linecache
import traceback
from collections.abc import Iterator
from traceback import FrameSummary
from typing import Final

from brrr_core.backend.contracts import CONTRACT_VERSION
from brrr_core.errors import BrokenPluginError, ContractVersionError, PluginError
from brrr_core.plugins.scanning import Origin
from brrr_core.safe_text import Mask, class_name, describe

__all__ = ["broken", "cannot_load", "other_contract", "raised"]

CORE: Final = "brrr_core"
REINSTALL: Final = "Reinstall it with its dependencies, or uninstall it."
REPORT: Final = "Try another version, or report the problem to its authors."


def broken(origin: Origin, what: str, *, remedy: str = REPORT) -> PluginError:
    """Return the error for a plugin that contradicts the rules for plugins.

    Args:
        origin: The plugin's origin, with which the message begins.
        what: The rest of the message.
        remedy: The remedy for users. If the plugin is installed from a checkout, the remedy is to correct it.
    """
    return BrokenPluginError(f"{origin} {what}", remedy=_for_reader(origin, remedy))


def cannot_load(origin: Origin, target: str, error: BaseException) -> PluginError:
    """Return the error for a module of a plugin that raised `error` when it was imported.

    If the source of a manifest names a newer contract version, that is the reason: a manifest for a newer core may have
    fields, and import names, that this core lacks.
    """
    frames = _frames_in(target, error)
    contract = max((version for frame in frames for version in _contracts_in(frame.filename)), default=CONTRACT_VERSION)
    if contract > CONTRACT_VERSION:
        return other_contract(origin, contract)
    what = f"is installed, but its {target} cannot be loaded: {describe(error)}{_place(frames)}"
    if isinstance(error, ImportError) and (error.name or "").partition(".")[0] == CORE:
        return broken(origin, what, remedy=f"Upgrade both: pip install --upgrade brrr-core {origin.distribution}.")
    return broken(origin, what, remedy=REINSTALL)


def raised(origin: Origin, target: str, error: BaseException, *, mask: Mask) -> PluginError:
    """Return the error for a callable of a plugin, such as the class of a backend, that raised `error`.

    The author of the plugin sees the text of the error. A user sees it only in the chained cause: a client library may
    have put into it a secret that no option holds.
    """
    frames = _frames_in(target, error)
    # Without a frame of the plugin, Python itself refused the call, for example because of its arguments.
    shown = describe(error, mask=mask) if origin.editable or not frames else class_name(error)
    return broken(origin, f"cannot make its {target}: it raised {shown}{_place(frames)}")


def other_contract(origin: Origin, contract: int) -> PluginError:
    """Return the error for a plugin of another contract version. It says which side to upgrade."""
    outdated = (origin.distribution or "the plugin") if contract < CONTRACT_VERSION else "brrr-core"
    return ContractVersionError(
        f"{origin} was written for contract version {contract}, but this brrr-core has version {CONTRACT_VERSION}",
        remedy=f"Upgrade {outdated}: pip install --upgrade {outdated}.",
    )


def _for_reader(origin: Origin, remedy: str) -> str:
    return "Correct it: it is installed from a checkout." if origin.editable else remedy


def _frames_in(target: str, error: BaseException) -> list[FrameSummary]:
    """Return the frames of an error that run code of the package of `target`."""
    package = target.partition(":")[0].partition(".")[0]
    found: list[FrameSummary] = []
    for frame, line in traceback.walk_tb(error.__traceback__):
        if str(frame.f_globals.get("__name__")).partition(".")[0] == package:
            found.append(FrameSummary(frame.f_code.co_filename, line, frame.f_code.co_name, lookup_line=False))
    return found


def _place(frames: list[FrameSummary]) -> str:
    return f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""


def _contracts_in(file: str) -> Iterator[int]:
    """Yield the contract versions that manifests in a file name as literals. The file is read, and not run."""
    import ast  # imported for errors only

    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError):
        return
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        if "manifest" in ast.unparse(call.func).casefold():
            values = [keyword.value for keyword in call.keywords if keyword.arg == "contract"]
            yield from (each.value for each in values if isinstance(each, ast.Constant) and type(each.value) is int)
