"""Run a coroutine with its own context variables, in the task that awaits it."""

from collections.abc import Coroutine, Generator
from contextvars import Context
from types import coroutine
from typing import Any, TypeVar

__all__ = ["run_in_context"]

ResultT = TypeVar("ResultT")


@coroutine
def run_in_context(context: Context, running: Coroutine[Any, Any, ResultT]) -> Generator[Any, Any, ResultT]:
    """Return the result of `running`. Each of its steps reads and sets the variables of `context`.

    A new task would also have its own context. But a handler that cancels its current task must cancel this one.
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
            given = None  # this frame must not keep an error that passes through it, nor the future that raised it
        try:
            given, step = (yield waited), running.send
        except BaseException as error:  # noqa: BLE001 - the coroutine gets every exception, also a cancellation
            given, step = error, running.throw
        finally:
            del waited
