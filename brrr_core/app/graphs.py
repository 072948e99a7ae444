"""The methods of a client that act on a call and all calls below it: explain and forget."""

from collections import OrderedDict
from collections.abc import Callable, Collection, Coroutine
from types import ModuleType
from typing import TYPE_CHECKING, Any, ParamSpec, overload

from brrr_core.app.catalogue import Catalogue
from brrr_core.app.tasks import Task, TypedTask
from brrr_core.engine.connection import Connection
from brrr_core.engine.forgetting import ToForget
from brrr_core.engine.starting import Scheduled
from brrr_core.errors import NotInstalledError

if TYPE_CHECKING:
    from brrr_explain import Explanation

__all__ = ["GraphReader"]

P = ParamSpec("P")


class GraphReader:
    """A client that explains and forgets graphs of calls."""

    _catalogue: Catalogue
    _connection: Connection
    _scheduled: OrderedDict[str, Scheduled]

    @overload
    def explain(
        self,
        task: TypedTask[Callable[P, Any]],
        *,
        topic: str | None = None,
        replay: bool = True,
        replay_all: bool = False,
    ) -> "Callable[P, Coroutine[Any, Any, Explanation]]": ...
    @overload
    def explain(
        self, task: str, *, topic: str | None = None, replay: bool = True, replay_all: bool = False
    ) -> "Callable[..., Coroutine[Any, Any, Explanation]]": ...
    def explain(
        self, task: Task | str, *, topic: str | None = None, replay: bool = True, replay_all: bool = False
    ) -> "Callable[..., Coroutine[Any, Any, Explanation]]":
        """Explain the state of a call and of all calls below it: `await app.explain(order)(11)`. It needs brrr-explain.

        It reads records, and runs handlers up to their first call without a value. It writes nothing. Only handlers
        with `@brrr.handler(replay=True)` run, among those of this client.

        Args:
            task: A handler, or the name of a task.
            topic: The topic of the call, if it is known.
            replay: Whether to run handlers. Without it, only the records of the call itself are read.
            replay_all: Run all handlers that take the active worker.

        Raises:
            NotInstalledError: brrr-explain is not installed.
            SignatureError: The arguments do not match the handler.
            BackendError: The store or the queue failed.
        """
        brrr_explain = _brrr_explain("`explain` comes")

        async def explained(*args: Any, **kwargs: Any) -> "Explanation":
            call = self._catalogue.encode(task, args, kwargs)
            known = self._scheduled.get(call.call_hash)
            place = known.topic if topic is None and known is not None else topic
            found: Explanation = await brrr_explain.explain(
                self._catalogue, call, topic=place, replay=replay, replay_all=replay_all
            )
            return found

        return explained

    @overload
    def forget(
        self, task: TypedTask[Callable[P, Any]], *, tree: bool = False, keep: Collection[str] = (), force: bool = False
    ) -> Callable[P, Coroutine[Any, Any, int]]: ...
    @overload
    def forget(
        self, task: str, *, tree: bool = False, keep: Collection[str] = (), force: bool = False
    ) -> Callable[..., Coroutine[Any, Any, int]]: ...
    def forget(
        self, task: Task | str, *, tree: bool = False, keep: Collection[str] = (), force: bool = False
    ) -> Callable[..., Coroutine[Any, Any, int]]:
        """Delete a call and its outcome: `await app.forget(order)(11)`. If it is called again, it is computed again.

        Calls without an outcome, and calls that others wait for, are kept, with all calls below them. brrr does not
        record which finished calls share a finished call: name the tasks of such calls in `keep`. Repeating the request
        is safe, and completes it. It takes two seconds, in which workers drop the values in their memory.

        Args:
            task: A handler, or the name of a task.
            tree: Also forget all calls below it. It needs brrr-explain, which finds them by replay.
            keep: Names of tasks and events. Their calls, and those below them, are kept.
            force: Forget calls that are still needed, too. The message of such a call is dead-lettered.

        Returns:
            By the call: the number of calls that were forgotten; 0 if there is nothing to forget.

        Raises:
            StillNeededError: The call has no outcome, or others wait for it.
            NotInstalledError: `tree` is set, and brrr-explain is not installed.
            SignatureError: The arguments do not match the handler.
            BackendError: A backend failed. Repeating the request completes it.
        """
        brrr_explain = _brrr_explain("`tree` needs") if tree else None

        async def forgotten(*args: Any, **kwargs: Any) -> int:
            call = self._catalogue.encode(task, args, kwargs)
            if brrr_explain is not None:
                done = await brrr_explain.forget(self._catalogue, call, keep=keep, force=force)
                return len(done.forgotten)
            handler = self._catalogue.tasks.get(call.task_name)
            waits = () if handler is not None and not handler.takes_app else None
            return len((await self._connection.forget([ToForget(call.call_hash, waits)], force=force)).forgotten)

        return forgotten


def _brrr_explain(what: str) -> ModuleType:
    try:
        import brrr_explain  # here, because it is a separate distribution
    except ModuleNotFoundError as error:
        if error.name != "brrr_explain":
            raise
        raise NotInstalledError(
            f"{what} with brrr-explain, which is not installed", remedy="Install it: pip install brrr-explain."
        ) from error
    return brrr_explain
