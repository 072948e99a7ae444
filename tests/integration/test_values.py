"""A wrong value is never stored: arguments and results fit their annotations, or the call fails."""

from collections import Counter
from collections.abc import Awaitable, Coroutine
from dataclasses import InitVar, dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import pydantic
import pydantic.dataclasses
import pytest

import brrr_core as brrr
from brrr_core.backend import Key
from brrr_core.errors import DecodeError, EncodeError, HandlerError, NotFoundError, ResultDecodeError
from brrr_core.hooks import CallFailed
from brrr_testkit.waiting import until
from brrr_testkit.workloads.fleet import BOUND, TOPIC, serving

if TYPE_CHECKING:
    from decimal import Decimal


@dataclass
class One:
    a: int


@dataclass
class Two:
    b: int


@dataclass
class Halved:
    half: int
    whole: InitVar[int]


@pydantic.dataclasses.dataclass
class Validated:
    x: int


class Model(pydantic.BaseModel):
    x: int


class Failures:
    """Keeps the errors of failed attempts."""

    def __init__(self) -> None:
        self.seen: list[BaseException] = []

    @brrr.hookimpl
    def brrr_call_failed(self, event: CallFailed) -> None:
        self.seen.append(event.error)


@pytest.mark.parametrize("codec", ["json", "json-object", "msgpack"])
async def test_call_with_new_field_waits_for_worker_that_knows_it(memory: str, codec: str) -> None:
    @dataclass
    class OldOrder:
        amount: int

    @dataclass
    class NewOrder:
        amount: int
        discount: int = 0

    @brrr.handler_no_arg
    async def old_total(order: OldOrder) -> int:
        return order.amount

    @brrr.handler_no_arg
    async def new_total(order: NewOrder) -> int:
        return order.amount - order.discount

    failures = Failures()
    async with serving(memory, {"total": old_total}, hooks=[failures], codec=codec) as old:
        await old.app.schedule("total", topic=TOPIC)(order=NewOrder(10, 3))

        async def refused() -> bool:
            return bool(failures.seen)

        await until(refused)
    assert {type(error) for error in failures.seen} == {DecodeError}
    async with serving(memory, {"total": new_total}, codec=codec) as new:
        assert await new.app.result(new_total, timeout=BOUND)(NewOrder(10, 3)) == 7


@pytest.mark.parametrize(
    ("annotation", "result"),
    [(int, "text"), (int, None), (None, 1), (list[One], [{"a": "x"}]), (One, Two(1)), (dict[int, str], {"x": "y"})],
    ids=str,
)
@pytest.mark.parametrize("codec", ["json", "json-object", "msgpack"])
async def test_result_that_does_not_fit_its_annotation_is_not_stored(
    memory: str, codec: str, annotation: Any, result: Any
) -> None:
    runs: list[int] = []

    async def wrong() -> Any:
        runs.append(1)
        return result

    wrong.__annotations__["return"] = annotation
    handler = brrr.handler_no_arg(wrong)
    failures = Failures()
    async with serving(memory, {"wrong": handler}, hooks=[failures], codec=codec) as fleet:
        await fleet.app.schedule(handler, topic=TOPIC)()
        (reason,) = await fleet.dead(1)
        with pytest.raises(NotFoundError):
            await fleet.app.read("wrong")()
    assert "the result of task 'wrong' does not fit its annotation" in reason
    assert [type(error) for error in failures.seen] == [EncodeError]
    assert runs == [1]


@pytest.mark.parametrize(
    ("annotation", "result", "read"),
    [
        (float, 2, 2.0),
        (tuple[int, str], (1, "x"), (1, "x")),
        (One | None, None, None),
        (object, {"a": 1}, {"a": 1}),
        (Awaitable[int], 5, 5),
        (Coroutine[Any, Any, int], 5, 5),
    ],
    ids=str,
)
async def test_result_that_fits_its_annotation_is_stored(memory: str, annotation: Any, result: Any, read: Any) -> None:
    async def later() -> Any:
        return result

    def right() -> Any:
        return later() if annotation in (Awaitable[int], Coroutine[Any, Any, int]) else result

    right.__annotations__["return"] = annotation
    handler = brrr.handler_no_arg(right)
    async with serving(memory, {"right": handler}) as fleet:
        assert await fleet.run(handler) == read


async def test_handler_that_never_returns_is_accepted(memory: str) -> None:
    @brrr.handler_no_arg
    async def fails() -> NoReturn:
        raise ValueError("as it does")

    with pytest.raises(ValueError, match="as it does"):
        await brrr.LocalBrrr(handlers={"fails": fails}).run("fails")()


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        (One | Two, "may not contain more than one dataclass"),
        (Counter[str], "the codec cannot decode to collections.Counter"),
        (Halved, "InitVar"),
        (list[Halved], "InitVar"),
        (Validated, "install brrr-pydantic"),
        (list[Model], "install brrr-pydantic"),
        ("Decimal", "does not resolve .*Decimal"),
    ],
    ids=str,
)
@pytest.mark.parametrize("codec", ["json", "json-object", "msgpack"])
@pytest.mark.parametrize("place", ["return", "image"])
async def test_annotation_that_cannot_be_decoded_is_named_when_the_worker_is_created(
    memory: str, codec: str, place: str, annotation: Any, reason: str
) -> None:
    async def resize(image: Any) -> Any:
        raise AssertionError("is not run")

    resize.__annotations__[place] = annotation
    handler = brrr.handler_no_arg(resize)
    named = {"return": "the result", "image": "parameter 'image'"}[place]
    async with brrr.serve(memory) as connection:
        with pytest.raises(HandlerError, match=f"{named} of handler .*resize is annotated with .*{reason}") as caught:
            brrr.AppWorker(handlers={"resize": handler}, codec=codec, connection=connection)
    assert caught.value.remedy


async def test_annotation_of_the_application_may_be_for_type_checkers_only(memory: str) -> None:
    async def top(app: "Decimal", n: int) -> int:
        return n

    handler = brrr.handler(top)  # type: ignore[arg-type]
    async with serving(memory, {"top": handler}) as fleet:
        assert await fleet.run("top", 3) == 3


@pytest.mark.parametrize("codec", ["json", "json-object", "msgpack"])
async def test_reader_of_a_value_that_does_not_fit_is_not_retried(memory: str, codec: str) -> None:
    @brrr.handler_no_arg
    async def leaf() -> int:
        raise AssertionError("has a value")

    runs: list[int] = []

    @brrr.handler
    async def top(app: brrr.ActiveWorker) -> int:
        runs.append(1)
        return await app.call(leaf)()

    failures = Failures()
    async with serving(memory, {"top": top, "leaf": leaf}, hooks=[failures], codec=codec) as fleet:
        call = fleet.app._catalogue.encode(leaf, (), {})
        await fleet.connection.store.write([(Key("value", call.call_hash), b"\xa4text"[1 - (codec == "msgpack") :])])
        await fleet.app.schedule(top, topic=TOPIC)()
        await fleet.dead(1)
        with pytest.raises(ResultDecodeError):
            await fleet.app.read(leaf)()
    assert [type(error) for error in failures.seen] == [ResultDecodeError]
    assert runs == [1]


@pytest.mark.parametrize("value", [Validated(1), Model(x=1), [Validated(1)], {"k": One(Model(x=1))}], ids=str)  # type: ignore[arg-type]
@pytest.mark.parametrize("codec", ["json", "json-object", "msgpack"])
async def test_value_that_pydantic_validates_is_refused_with_the_remedy(memory: str, codec: str, value: Any) -> None:
    async with serving(memory, {}, codec=codec) as fleet:
        with pytest.raises(EncodeError, match="validated by pydantic; install brrr-pydantic"):
            await fleet.app.schedule("task", topic=TOPIC)(image=value)
