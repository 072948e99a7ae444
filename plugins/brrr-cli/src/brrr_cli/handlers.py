"""Load handlers, schedules, hook plugins and lifespans from `MODULE:NAME`, as a command line names them."""

import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, NoReturn, TypeAlias, cast

from cyclopts import Parameter

from brrr_core import RecurringSchedule, Task
from brrr_core.app.catalogue import checked_tasks
from brrr_core.app.worker import LifespanFunction
from brrr_core.errors import BrokenPluginError, BrrrError, CommandError, HandlerError
from brrr_core.hooks import PROJECT
from brrr_core.safe_text import describe

__all__ = ["HandlersOption", "load_handlers", "load_hook_plugin", "load_lifespan", "load_schedules"]

HandlersOption: TypeAlias = Annotated[
    str | None,
    Parameter(
        name="--handlers",
        help="MODULE or MODULE:HANDLERS with the task's function, to arrange the arguments as its parameters.",
    ),
]
"""The option `--handlers`: the module with the function of a task."""


def load_handlers(named: str) -> dict[str, Task]:
    """Return the handlers by their task names.

    Args:
        named: `MODULE:HANDLERS`, a dict of handlers by name, a function that returns one, or a single handler; or
            `MODULE` for all handlers in it, by their functions' names.

    Raises:
        CommandError: The module, or the name in it, does not exist.
        HandlerError: The module cannot be imported, or the object is not a handler or a dict of handlers.
    """
    found = _load(named, known=_known_handlers)
    if isinstance(found, ModuleType):
        return _collect(found)
    if callable(found) and not isinstance(found, Task):
        found = found()
    if isinstance(found, Task):
        return {found.name: found}
    if not isinstance(found, Mapping):
        raise HandlerError(
            f"{named} is a {type(found).__name__}, not a dict of handlers by name", remedy="Name a dict, or a module."
        )
    return checked_tasks(cast("Mapping[str, Task]", found), of=f" of {named}")


def load_schedules(named: str) -> list[RecurringSchedule]:
    """Return recurring schedules.

    Args:
        named: `MODULE:NAME` of a list of schedules, of a function that returns one, or of a single schedule.

    Raises:
        CommandError: The module, or the name in it, does not exist, or is not a list of schedules.
    """
    found = _load(named)
    if callable(found) and not isinstance(found, Task):
        found = found()
    listed = cast("list[object]", [*found] if isinstance(found, list | tuple) else [found])
    for schedule in listed:
        if not hasattr(schedule, "name") or not callable(getattr(schedule, "begin", None)):
            _refuse(
                f"{named} has a {type(schedule).__name__}, not a recurring schedule",
                "Name a list of schedules, such as those of `brrr_cron.every`: MODULE:SCHEDULES.",
            )
    return cast("list[RecurringSchedule]", listed)


def load_hook_plugin(named: str) -> object:
    """Return a hook plugin.

    Args:
        named: `MODULE:NAME` of an object, or of a class that is called without arguments; or a `MODULE` with hooks.

    Raises:
        CommandError: The module, or the name in it, does not exist, or has no hook.
        BrokenPluginError: The class raises.
    """
    plugin = _load(named)
    if isinstance(plugin, type):
        try:
            plugin = plugin()
        except Exception as error:
            raise BrokenPluginError(
                f"the hook plugin {named} cannot be made: {describe(error)}",
                remedy="Name an object, or a class that takes no arguments.",
            ) from error
    if not any(hasattr(getattr(plugin, name, None), f"{PROJECT}_impl") for name in dir(plugin)):
        _refuse(f"{named} has no hook", "Mark its functions with `brrr.hookimpl`.")
    return plugin


def load_lifespan(named: str) -> LifespanFunction:
    """Return a lifespan.

    Args:
        named: `MODULE:NAME` of an async context manager function.

    Raises:
        CommandError: The module, or the name in it, does not exist, or is not a function.
    """
    lifespan = _load(named)
    if not callable(lifespan):
        _refuse(
            f"{named} is a {type(lifespan).__name__}, not a lifespan",
            "Name a function that is decorated with `contextlib.asynccontextmanager`: MODULE:NAME.",
        )
    return cast("LifespanFunction", lifespan)


def _load(named: str, *, known: Callable[[ModuleType], str] = lambda _: "Check its spelling.") -> Any:
    """Return the module or the object. Modules in the working directory are found."""
    if "" not in sys.path:
        sys.path.insert(0, "")
    module_name, colon, path = named.partition(":")
    module = _import(module_name)
    found: Any = module
    for part in path.split(".") if colon else ():
        try:
            found = getattr(found, part)
        except AttributeError:
            _refuse(f"the module {module_name} has no {path!r}", known(module))
    return found


def _import(name: str) -> ModuleType:
    if Path(name).suffix == ".py" and Path(name).is_file():
        _refuse_file(Path(name))
    if not all(part.isidentifier() for part in name.split(".")):
        _refuse(f"{name!r} is not the name of a module", "Write it like tasks, or package.tasks, or tasks:handlers.")
    try:
        return import_module(name)
    except BrrrError:
        raise
    except Exception as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and (name == missing or name.startswith(f"{missing}.")):
            raise CommandError(
                f"there is no module {missing!r} in this folder or on the path of {sys.executable}",
                remedy="Run the command in the folder of the module, or install the module in the environment of brrr.",
            ) from error
        raise HandlerError(
            f"the module {name} cannot be imported: {describe(error)}",
            remedy="Fix the module. Add -v to see the traceback.",
        ) from error


def _refuse_file(path: Path) -> NoReturn:
    parts = path.with_suffix("").parts
    there = "" if all(map(str.isidentifier, parts)) else f" in the folder {path.parent}"
    _refuse(
        f"{str(path)!r} is a file, but a module name is needed",
        f"Write {parts[-1] if there else '.'.join(parts)}{there}.",
    )


def _collect(module: ModuleType) -> dict[str, Task]:
    tasks = _tasks(module)
    if not tasks:
        raise HandlerError(
            f"the module {module.__name__} holds no handler",
            remedy="Decorate a function with `brrr.handler` or `brrr.handler_no_arg`, or name a dict: MODULE:HANDLERS.",
        )
    handlers = {task.name: task for task in tasks}
    if len(handlers) < len(tasks):
        raise HandlerError(
            f"two handlers of the module {module.__name__} have one name, among {_names(task.name for task in tasks)}",
            remedy="Name a dict of handlers by name: MODULE:HANDLERS.",
        )
    return handlers


def _tasks(module: ModuleType) -> list[Task]:
    return list(dict.fromkeys(value for value in vars(module).values() if isinstance(value, Task)))


def _known_handlers(module: ModuleType) -> str:
    tasks = _tasks(module)
    return f"It holds the handlers {_names(task.name for task in tasks)}." if tasks else "It holds no handler."


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _refuse(what: str, remedy: str) -> NoReturn:
    raise CommandError(what, remedy=remedy) from None
