"""`MODULE:NAME` becomes handlers, schedules, a hook plugin or a lifespan, or an error that names the wrong part."""

from pathlib import Path

import pytest

from brrr_cli.handlers import load_handlers, load_hook_plugin, load_lifespan, load_schedules
from brrr_core.errors import BrokenPluginError, BrrrError, CommandError, HandlerError

pytestmark = pytest.mark.usefixtures("tasks")


@pytest.mark.parametrize(
    ("named", "names"),
    [
        ("tasks", {"fib": "fib", "hello": "hello", "fails": "fails"}),
        ("tasks:handlers", {"greet": "hello"}),
        ("tasks:make", {"number": "fib"}),
        ("tasks:fib", {"fib": "fib"}),
    ],
)
def test_name_loads_handlers(named: str, names: dict[str, str]) -> None:
    assert {name: task.name for name, task in load_handlers(named).items()} == names


@pytest.mark.parametrize(
    ("named", "kind", "what"),
    [
        ("nosuch", CommandError, "no module 'nosuch'"),
        ("tasks.sub", CommandError, "no module 'tasks.sub'"),
        ("tasks.py:handlers", CommandError, "'tasks.py' is a file"),
        ("nosuch.py", CommandError, "no module 'nosuch"),
        ("./nosuch.py", CommandError, "not the name of a module"),
        ("tasks:nosuch", CommandError, "has no 'nosuch'"),
        ("tasks:number", HandlerError, "is a int, not a dict"),
        ("tasks:plain", HandlerError, "'bad' of tasks:plain is a plain"),
        ("json", HandlerError, "holds no handler"),
        ("broken", HandlerError, "cannot be imported: ZeroDivisionError"),
        ("needs", HandlerError, "cannot be imported: ModuleNotFoundError: No module named 'nosuch'"),
        ("twice", HandlerError, "have one name"),
    ],
)
def test_each_mistake_has_its_own_error(tasks: Path, named: str, kind: type[BrrrError], what: str) -> None:
    (tasks / "broken.py").write_text("1 / 0")
    (tasks / "needs.py").write_text("import nosuch")
    (tasks / "twice.py").write_text(
        "import brrr_core as b\nf = b.handler_no_arg(lambda: 1)\ng = b.handler_no_arg(lambda: 2)"
    )

    with pytest.raises(kind) as refused:
        load_handlers(named)

    assert what in refused.value.what
    assert refused.value.remedy


def test_error_for_unknown_name_lists_known_handlers() -> None:
    with pytest.raises(CommandError, match="It holds the handlers fails, fib, hello"):
        load_handlers("tasks:nosuch")


def test_error_for_file_names_its_module(tasks: Path) -> None:
    (tasks / "package").mkdir()
    (tasks / "package/more.py").touch()
    files = ("tasks.py", "./tasks.py:handlers", "package/more.py", str(tasks / "tasks.py"))
    remedies: list[str] = []
    for named in files:
        with pytest.raises(CommandError, match="is a file") as refused:
            load_handlers(named)
        remedies.append(refused.value.remedy)

    assert remedies == ["Write tasks.", "Write tasks.", "Write package.more.", f"Write tasks in the folder {tasks}."]


HOOKS = """
import brrr_core as brrr

class Plugin:
    @brrr.hookimpl
    def brrr_call_returned(self, event):
        pass

class Needs(Plugin):
    def __init__(self, wanted):
        pass

@brrr.hookimpl
def brrr_call_failed(event):
    pass

plugin = Plugin()
number = 7
"""


@pytest.mark.parametrize("named", ["hooks", "hooks:plugin", "hooks:Plugin"])
def test_module_object_and_class_are_hook_plugins(tasks: Path, named: str) -> None:
    (tasks / "hooks.py").write_text(HOOKS)
    plugin = load_hook_plugin(named)
    assert not isinstance(plugin, type)
    assert hasattr(plugin, "brrr_call_failed" if named == "hooks" else "brrr_call_returned")


@pytest.mark.parametrize(
    ("named", "kind", "what"),
    [
        ("hooks:nosuch", CommandError, "has no 'nosuch'"),
        ("hooks:number", CommandError, "hooks:number has no hook"),
        ("tasks", CommandError, "tasks has no hook"),
        ("hooks:Needs", BrokenPluginError, "cannot be made: TypeError.*wanted"),
    ],
)
def test_object_without_hooks_is_refused(tasks: Path, named: str, kind: type[BrrrError], what: str) -> None:
    (tasks / "hooks.py").write_text(HOOKS)
    with pytest.raises(kind, match=what):
        load_hook_plugin(named)


@pytest.mark.parametrize("named", ["tasks", "tasks:number"])
def test_lifespan_must_be_a_function(named: str) -> None:
    with pytest.raises(CommandError, match=r"not a lifespan\. Name a function"):
        load_lifespan(named)


SCHEDULES = """
import brrr_core as brrr
import brrr_cron

first = brrr_cron.every("0 3 * * *", "nightly")
both = [first, brrr_cron.every("0 4 * * *", "nightly")]
wrong = [first, 7]

def make():
    return tuple(both)
"""


@pytest.mark.parametrize(("named", "number"), [("ticks:first", 1), ("ticks:both", 2), ("ticks:make", 2)])
def test_schedule_list_and_function_are_schedules(tasks: Path, named: str, number: int) -> None:
    (tasks / "ticks.py").write_text(SCHEDULES)
    assert [schedule.name for schedule in load_schedules(named)] == [
        "nightly 0 3 * * * UTC",
        "nightly 0 4 * * * UTC",
    ][:number]


@pytest.mark.parametrize(("named", "what"), [("ticks:wrong", "has a int"), ("ticks", "has a module")])
def test_object_that_is_not_a_schedule_is_refused(tasks: Path, named: str, what: str) -> None:
    (tasks / "ticks.py").write_text(SCHEDULES)
    with pytest.raises(CommandError, match=f"{what}, not a recurring schedule"):
        load_schedules(named)
