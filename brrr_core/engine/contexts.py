"""Runs a coroutine with context variables of its own, in the task that awaits it."""

from collections.abc import Coroutine, Generator
from contextvars import Context
from types import coroutine
from typing import Any, TypeVar

__all__ = ["run_in_context"]

ResultT = TypeVar("ResultT")


@coroutine
def run_in_context(context: Context, running: Coroutine[Any, Any, ResultT]) -> Generator[Any, Any, ResultT]:
    """The result of `running`, each step of which sees and sets the variables of `context`.

    A task of its own would have its own context too, and a cancellation of its own, which a handler may ask for.
    """
    given: Any = None
    step = running.send
    while True:
        try:
            waited = context.run(step, given)
        except StopIteration as ended:
            result: ResultT = ended.value
            return result
        finally:
            given = None  # an error that passes through this frame must not be held by it, nor the future that gave it
        try:
            given, step = (yield waited), running.send
        except BaseException as error:  # noqa: BLE001 - whatever comes, a cancellation too, is for what runs
            given, step = error, running.throw
        finally:
            del waited
