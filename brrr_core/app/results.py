"""The results of calls: look them up, and wait for the missing ones."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from brrr_core.app.catalogue import Catalogue, expired
from brrr_core.app.pending import PendingCall
from brrr_core.codec import Codec
from brrr_core.engine.batching import BATCH_LIMIT
from brrr_core.engine.calls import SLEEP, Child
from brrr_core.engine.run import Run
from brrr_core.errors import BrrrError, CallFailedError, DeadlineExceededError
from brrr_core.wire import EXPIRED, Call

__all__ = ["results_of"]


async def results_of(
    run: Run, catalogue: Catalogue, calls: Sequence[PendingCall[Any]], *, return_exceptions: bool
) -> list[Any]:
    """Return the results of calls of a run. See `ActiveWorker.gather`.

    Raises:
        Defer: A call has no value yet, and the run cannot wait for it.
    """
    children = [_child(call, catalogue.codec) for call in calls] if len(calls) <= BATCH_LIMIT else None
    found = await _look_up(run, catalogue, calls, children, presume=True)
    while found.missing:
        await run.defer()
        found = await _look_up(run, catalogue, calls, children, presume=False)
    try:
        if found.failed is not None and not return_exceptions:
            raise found.failed
        return found.results
    finally:
        del found  # this frame must not keep the error, whose traceback holds this frame


class _Found(NamedTuple):
    """The results of calls, some of them errors, and the first error; or that values are missing."""

    results: list[Any]
    failed: BrrrError | None
    missing: bool


async def _look_up(
    run: Run,
    catalogue: Catalogue,
    calls: Sequence[PendingCall[Any]],
    encoded: Sequence[Child] | None,
    *,
    presume: bool,
) -> _Found:
    """Look calls up. If they are not `encoded` yet, encode them in batches, so that a wide gather takes less memory."""
    results: list[Any] = []
    missing = False
    failed: BrrrError | None = None
    for start in range(0, len(calls), BATCH_LIMIT):
        batch = calls[start : start + BATCH_LIMIT]
        children = encoded or [_child(call, catalogue.codec) for call in batch]
        values = await run.look_up(children, presume=presume)
        missing = missing or None in values
        if missing:
            continue
        for call, child, value in zip(batch, children, values, strict=True):
            assert value is not None  # noqa: S101 - none is missing
            try:
                if child.wait is not None and value == EXPIRED:
                    raise expired(child.call)
                results.append(None if child.is_sleep else catalogue.decode(child.call, value, call.target.returns))
            except (CallFailedError, DeadlineExceededError) as error:
                results.append(error)
                failed = failed or error
    try:
        return _Found(results, failed, missing)
    finally:
        failed = None  # as above


def _child(call: PendingCall[Any], codec: Codec) -> Child:
    target, wait = call.target, call.wait
    if wait is not None and target.task_name is SLEEP:
        return Child(Call(SLEEP, b"", wait.outcome), "", 0, wait)
    encoded = codec.encode_call(target.task_name, call.args, call.kwargs or {})
    return Child(encoded, target.topic, target.delay, wait)
