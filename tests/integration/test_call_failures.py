"""A call that fails for good has a failure as its outcome. Its callers see it, and can handle it."""

import asyncio
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

import brrr_core as brrr
from brrr_core.backend import Key
from brrr_core.codec import Codec
from brrr_core.errors import CallFailedError, Cause
from brrr_core.hooks import CallBuried, CallFailed
from brrr_core.plugins import load_codec
from brrr_core.wire import FAILURE_PREFIX, Call, decode_failure
from brrr_testkit.workloads.fleet import QUICK, TOPIC, serving

FAILING = replace(QUICK, max_attempts=2, on_exhausted="fail")


class NoSuchCustomerError(brrr.TerminalError):
    pass


@brrr.handler_no_arg
async def customer(number: int) -> str:
    if number < 0:
        raise NoSuchCustomerError(f"no customer {number}", details={"number": number})
    return f"customer {number}"


@brrr.handler_no_arg
async def broken(text: str) -> None:
    raise ValueError(text)


@brrr.handler
async def careless(app: brrr.ActiveWorker, number: int) -> str:
    return await app.call(customer)(number)


@brrr.handler
async def careful(app: brrr.ActiveWorker, number: int) -> str:
    try:
        return await app.call(customer)(number)
    except brrr.CallFailedError as error:
        return f"{error.task_name} failed with {error.error_type}: {error.message} {error.details}"


HANDLERS = {"customer": customer, "broken": broken, "careless": careless, "careful": careful}


class Events:
    """Keeps the failures and the dead letters."""

    def __init__(self) -> None:
        self.failed: list[CallFailed] = []
        self.buried: list[CallBuried] = []

    @brrr.hookimpl
    def brrr_call_failed(self, event: CallFailed) -> None:
        self.failed.append(event)

    @brrr.hookimpl
    def brrr_call_buried(self, event: CallBuried) -> None:
        self.buried.append(event)


async def test_caller_handles_failure_of_its_call(url: str) -> None:
    events = Events()
    async with serving(url, HANDLERS, hooks=[events]) as fleet:
        outcome = await fleet.run(careful, -1)
        assert await fleet.idle() == (0, 0, 0, 0)
    assert outcome == "customer failed with NoSuchCustomerError: no customer -1 {'number': -1}"
    (event,) = events.failed  # no second attempt
    assert (event.task_name, event.retry_in, event.final) == ("customer", None, True)


async def test_unhandled_failure_fails_callers_and_keeps_the_chain(url: str) -> None:
    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> str:
        return await app.call(careless)(-7)

    async with serving(url, {**HANDLERS, "top": top}) as fleet:
        with pytest.raises(CallFailedError) as caught:
            await fleet.run(top)
        assert await fleet.idle() == (0, 0, 0, 0)
        hashes = [
            fleet.app._catalogue.encode(task, args, {}).call_hash for task, args in ((careless, [-7]), (customer, [-7]))
        ]
    error = caught.value
    assert (error.task_name, error.error_type, error.exhausted) == ("top", "CallFailedError", False)
    assert [(cause.task_name, cause.call_hash) for cause in error.causes] == [
        ("careless", hashes[0]),
        ("customer", hashes[1]),
    ]
    assert error.causes[-1] == Cause("customer", hashes[1], "NoSuchCustomerError", "no customer -7")
    assert error.reason == "no customer -7"
    assert "because the call" in error.what
    assert "no customer -7" in error.what


async def test_read_and_result_raise_failure_with_its_traceback(url: str) -> None:
    async with serving(url, HANDLERS) as fleet:
        with pytest.raises(CallFailedError, match="no customer -3"):
            await fleet.run(customer, -3)
        with pytest.raises(CallFailedError) as caught:
            await fleet.app.read(customer)(-3)
    assert caught.value.traceback.endswith("NoSuchCustomerError: no customer -3\n")
    assert "in customer" in caught.value.traceback


async def test_scheduling_a_failed_call_again_puts_nothing(url: str) -> None:
    async with serving(url, HANDLERS) as fleet:
        with pytest.raises(CallFailedError):
            await fleet.run(customer, -3)
        await fleet.idle()
        assert (await fleet.app.schedule(customer, topic=TOPIC)(-3)).root_id is None


async def test_gather_raises_first_failure_in_argument_order_after_all_have_outcomes(url: str) -> None:
    finished: list[str] = []

    @brrr.handler_no_arg
    async def slow() -> str:
        await asyncio.sleep(0.05)
        finished.append("slow")
        return "slow"

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> list[str]:
        try:
            await app.gather(app.call(slow)(), app.call(customer)(-2), app.call(customer)(-1))
        except CallFailedError as error:
            return [error.message, *finished]
        return []

    async with serving(url, {**HANDLERS, "slow": slow, "top": top}) as fleet:
        assert await fleet.run(top) == ["no customer -2", "slow"]


@pytest.mark.parametrize("helper", [False, True], ids=["calls", "with a helper"])
async def test_gather_returns_exceptions_in_place_of_results(url: str, helper: bool) -> None:
    async def help_out(app: brrr.ActiveWorker) -> str:
        return await app.call(customer)(-5)

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> list[str]:
        last: Any = help_out(app) if helper else app.call(customer)(-5)
        outcomes = await app.gather(app.call(customer)(1), app.call(customer)(-4), last, return_exceptions=True)
        return [outcome.message if isinstance(outcome, CallFailedError) else str(outcome) for outcome in outcomes]

    async with serving(url, {**HANDLERS, "top": top}) as fleet:
        assert await fleet.run(top) == ["customer 1", "no customer -4", "no customer -5"]


async def test_sync_handler_handles_failure(url: str) -> None:
    @brrr.handler
    def top(app: brrr.ActiveWorker) -> str:
        try:
            return app.wait(app.call(customer)(-1))
        except CallFailedError as error:
            return error.message

    async with serving(url, {**HANDLERS, "top": top}) as fleet:
        assert await fleet.run(top) == "no customer -1"


async def test_exhausted_call_fails_its_callers_and_leaves_a_dead_letter(url: str) -> None:
    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> tuple[str, bool]:
        try:
            return await app.call("broken", returns=str)("out of order"), False
        except CallFailedError as error:
            return f"{error.error_type}: {error.message}", error.exhausted

    events = Events()
    async with serving(url, {**HANDLERS, "top": top}, policy=FAILING, hooks=[events]) as fleet:
        assert await fleet.run(top) == ("ValueError: out of order", True)
        assert await fleet.idle() == (0, 0, 0, 1)
        (reason,) = await fleet.dead(1)
    assert reason.startswith("ValueError: out of order")
    assert [(event.attempt, event.final) for event in events.failed] == [(1, False), (2, True)]
    assert [event.final for event in events.buried] == [True]


async def test_redriven_dead_letter_of_a_failed_call_is_only_acknowledged(url: str) -> None:
    async with serving(url, HANDLERS, policy=FAILING) as fleet:
        with pytest.raises(CallFailedError):
            await fleet.run(broken, "out of order")
        await fleet.dead(1)
        assert await fleet.connection.queue.redrive(TOPIC, limit=10) == 1
        assert await fleet.idle() == (0, 0, 0, 0)


async def test_exhausted_call_is_dead_lettered_without_outcome_by_default(url: str) -> None:
    async with serving(url, HANDLERS, policy=replace(QUICK, max_attempts=2)) as fleet:
        done = await fleet.app.schedule(broken, topic=TOPIC)("out of order")
        await fleet.dead(1)
        assert await fleet.connection.value(done.call_hash) is None


async def test_settings_of_a_handler_override_the_policy(memory: str) -> None:
    attempts: list[int] = []

    @brrr.handler(max_attempts=3, backoff=0.001, on_exhausted="fail")
    async def stubborn(app: brrr.ActiveWorker) -> None:
        attempts.append(app.attempt)
        raise OSError("no")

    events = Events()
    async with serving(memory, {"stubborn": stubborn}, policy=replace(QUICK, backoff=3600), hooks=[events]) as fleet:
        with pytest.raises(CallFailedError, match="OSError: no"):
            await fleet.run(stubborn)
    assert attempts == [1, 2, 3]
    assert [event.retry_in is None for event in events.failed] == [False, False, True]


@pytest.mark.parametrize(
    ("kind", "attempts", "exhausted"), [(KeyError, 1, False), (LookupError, 1, True), (OSError, 2, True)]
)
async def test_errors_decide_about_retries(memory: str, kind: type[Exception], attempts: int, exhausted: bool) -> None:
    ran: list[int] = []

    @brrr.handler_no_arg(retry_on=(OSError,), fail_on=(KeyError,), max_attempts=2, on_exhausted="fail")
    async def picky() -> None:
        ran.append(1)
        raise kind("it")

    async with serving(memory, {"picky": picky}) as fleet:
        with pytest.raises(CallFailedError) as caught:
            await fleet.run(picky)
    assert (len(ran), caught.value.exhausted) == (attempts, exhausted)


async def test_errors_of_a_deployment_never_become_outcomes(url: str) -> None:
    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> str:
        return await app.call("missing", returns=str)()

    async with serving(url, {**HANDLERS, "top": top}, policy=FAILING) as fleet:
        await fleet.app.schedule(top, topic=TOPIC)()
        await fleet.app.schedule("customer", topic=TOPIC)("not a number")
        reasons = await fleet.dead(2)
        assert await fleet.idle() == (0, 0, 0, 2)
    assert sorted(reason.partition(":")[0].rpartition(".")[2] for reason in reasons) == [
        "DecodeError",
        "UnknownTaskError",
    ]


class Forging(Codec):
    """A codec whose results look like failures."""

    def __init__(self) -> None:
        self._json = load_codec("json")

    def encode_call(self, task_name: str, args: Sequence[object], kwargs: Mapping[str, object]) -> Call:
        return self._json.encode_call(task_name, args, kwargs)

    async def invoke_task(self, call: Call, task: Callable[..., Any]) -> bytes:
        return FAILURE_PREFIX + await self._json.invoke_task(call, task)

    def decode_return(self, task_name: str, payload: bytes, *, returns: Any = Any) -> Any:
        return self._json.decode_return(task_name, payload, returns=returns)


async def test_result_that_looks_like_a_failure_is_refused(memory: str) -> None:
    async with serving(memory, HANDLERS, codec=Forging(), policy=replace(QUICK, max_attempts=1)) as fleet:
        done = await fleet.app.schedule(customer, topic=TOPIC)(1)
        (reason,) = await fleet.dead(1)
        assert await fleet.connection.value(done.call_hash) is None
    assert "marks failures" in reason


async def test_details_that_are_too_large_dead_letter_the_call(memory: str) -> None:
    @brrr.handler_no_arg
    async def verbose() -> None:
        raise brrr.TerminalError("see details", details="x" * 20_000)

    async with serving(memory, {"verbose": verbose}, policy=replace(QUICK, max_attempts=1)) as fleet:
        await fleet.app.schedule(verbose, topic=TOPIC)()
        (reason,) = await fleet.dead(1)
    assert "20002 bytes, more than 16384" in reason


async def test_failure_has_a_bounded_size(memory: str) -> None:
    @brrr.handler
    async def deep(app: brrr.ActiveWorker, depth: int) -> None:
        if not depth:
            raise brrr.TerminalError("x" * 1_000_000)
        await app.call("deep", returns=str)(depth - 1)

    async with serving(memory, {"deep": deep}) as fleet:
        with pytest.raises(CallFailedError) as caught:
            await fleet.run(deep, 40)
        done = await fleet.app.schedule(deep, topic=TOPIC)(40)
        record = await fleet.connection.value(done.call_hash)
    assert record is not None
    assert len(record) < 128 * 1024
    assert len(caught.value.causes) == 16
    assert caught.value.causes[-1].error_type == "TerminalError"


async def test_failures_are_not_kept_in_the_memory_of_a_worker(memory: str) -> None:
    async with serving(memory, HANDLERS) as fleet:
        await fleet.run(careful, -1)
        done = await fleet.app.schedule(customer, topic=TOPIC)(-1)
        assert fleet.connection._services.cache.get(done.call_hash) is None


async def test_local_brrr_runs_handlers_of_failures(memory: str) -> None:
    local = brrr.LocalBrrr(handlers=HANDLERS, policy=replace(FAILING, max_attempts=1))

    assert await local.run(careful)(-1) == "customer failed with NoSuchCustomerError: no customer -1 {'number': -1}"
    with pytest.raises(CallFailedError, match="ValueError: out of order"):
        await local.run(broken)("out of order")


async def test_error_survives_pickling(memory: str) -> None:
    async with serving(memory, HANDLERS) as fleet:
        with pytest.raises(CallFailedError) as caught:
            await fleet.run(customer, -3)
    error = pickle.loads(pickle.dumps(caught.value))
    assert (str(error), error.details) == (str(caught.value), {"number": -3})
    terminal = pickle.loads(pickle.dumps(brrr.TerminalError("why", details=[1])))
    assert (str(terminal), terminal.details) == ("why", [1])


async def test_failure_record_has_no_secret(memory: str) -> None:
    @brrr.handler_no_arg
    async def tattler() -> None:
        raise brrr.TerminalError("the password is abracadabra")

    async with serving(f"{memory}?lease=30s", {"tattler": tattler}) as fleet:
        object.__setattr__(fleet.connection._services, "mask", lambda text: text.replace("abracadabra", "****"))
        done = await fleet.app.schedule(tattler, topic=TOPIC)()
        with pytest.raises(CallFailedError):
            await fleet.app.result(tattler)()
        (record,) = await fleet.connection.store.read([Key("value", done.call_hash)])
    assert record is not None
    assert b"abracadabra" not in record
    assert decode_failure(record).message == "the password is ****"
