"""Compute the cost of a million calls on AWS, from counts on emulators and published prices.

Run it as `.venv/bin/python -m benchmarks.cost`. It counts requests as they are sent, and DynamoDB's units as the server
reports them. The figures do not include the requests of an idle worker that waits on an empty queue.
"""

import argparse
import asyncio
import secrets
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

import brrr_core as brrr
from benchmarks.servers import dynamo, sqs, valkey
from benchmarks.workloads import HANDLERS
from brrr_aws.metering import metering

__all__ = ["SHAPES", "Bill", "Shape", "bill"]

WRITE_UNIT: Final = 0.625e-6
"""Dollars for a DynamoDB write request unit (1 KB written): on demand, standard tables, us-east-1, since AWS halved the
price on 1 November 2024. https://aws.amazon.com/dynamodb/pricing/on-demand/, as quoted by others in 2025."""

READ_UNIT: Final = 0.125e-6
"""Dollars for a read request unit (4 KB read consistently), from the same source; halved on the same day."""

REQUEST: Final = 0.40e-6
"""Dollars for a request to an SQS standard queue, up to 64 KB, us-east-1. The first million a month is free.
https://aws.amazon.com/sqs/pricing/, as quoted by others in March and June 2026."""

CONCURRENCY: Final = 100


@dataclass(frozen=True, slots=True)
class Shape:
    """A call graph: its task, its arguments by the name of a run, and its number of calls."""

    task: str
    arguments: Callable[[str], list[tuple[Any, ...]]]
    calls: int


SHAPES: Final[Mapping[str, Shape]] = {
    "independent": Shape("leaf", lambda run: [(index, run) for index in range(500)], 500),
    "fan-out": Shape("fan_out", lambda run: [(500, run)], 501),
    "tree": Shape("tree", lambda run: [(10, 1, run)], 2_047),
}


@dataclass(frozen=True, slots=True)
class Bill:
    """The requests and units of one run.

    Attributes:
        calls: Number of calls.
        requests: Number of requests by service and operation, such as `dynamodb.PutItem`.
        read_units: Read units of DynamoDB.
        write_units: Write units of DynamoDB.
    """

    calls: int
    requests: Counter[str]
    read_units: float
    write_units: float

    @property
    def messages(self) -> int:
        """Requests to SQS. Each is billed once, as ten messages of some hundred bytes stay below 64 KB."""
        return sum(number for name, number in self.requests.items() if name.startswith("sqs."))

    @property
    def dollars(self) -> float:
        """Cost of a million such calls, in dollars."""
        run = self.read_units * READ_UNIT + self.write_units * WRITE_UNIT + self.messages * REQUEST
        return run / self.calls * 1e6


async def bill(
    urls: list[str], shape: Shape, *, concurrency: int = CONCURRENCY, resend_after: float | None = 3_600
) -> Bill:
    """Run a shape once, including the scheduling, and count its requests."""
    policy = brrr.Policy(spawn_limit=1_000_000, resend_after=resend_after)
    with metering() as meter:
        async with brrr.serve(*urls, policy=policy) as connection:
            app = brrr.AppWorker(handlers=HANDLERS, codec="json", connection=connection)
            run = secrets.token_hex(4)
            topic = f"cost-{run}"  # unique: the last poll of an earlier run may still hide messages
            arguments = shape.arguments(run)
            meter.requests.clear()
            meter.read_units = meter.write_units = 0
            await asyncio.gather(*(app.schedule(shape.task, topic=topic)(*each) for each in arguments))
            loop = asyncio.create_task(connection.loop(topic, app.handle, concurrency=concurrency))
            while any(await connection.queue.stats(topic)):  # noqa: ASYNC110 - a queue has no event for being empty
                await asyncio.sleep(0.01)
            loop.cancel()
            await asyncio.wait({loop})
            await app.read(shape.task)(*arguments[-1])
    requests = Counter({name: number for name, number in meter.requests.items() if name not in EXCLUDED})
    return Bill(shape.calls, requests, meter.read_units, meter.write_units)


EXCLUDED: Final = frozenset({"sqs.GetQueueAttributes", "sqs.GetQueueUrl", "sqs.CreateQueue", "dynamodb.DescribeTable"})
"""Requests of the measurement itself and of opening."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="benchmarks.cost", description=__doc__)
    parser.add_argument("--queue", choices=("sqs", "redis"), default="sqs", help="the queue's backend (sqs)")
    parser.add_argument("--shape", action="append", choices=SHAPES, help="only this one; may be repeated")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="brrr-cost-") as folder, ExitStack() as servers:
        store = servers.enter_context(dynamo(folder))
        queue = servers.enter_context((sqs if chosen.queue == "sqs" else valkey)(folder))
        print(
            f"{chosen.queue}+dynamo, concurrency {CONCURRENCY}; requests and units per call; dollars per million "
            "calls, us-east-1"
        )
        print(f"{'shape':<13}{'write units':>12}{'read units':>12}{'SQS requests':>14}{'$ a million':>13}")
        for name in chosen.shape or list(SHAPES):
            found = asyncio.run(bill([queue, store], SHAPES[name]))
            units = f"{found.write_units / found.calls:>12.2f}{found.read_units / found.calls:>12.2f}"
            print(f"{name:<13}{units}{found.messages / found.calls:>14.2f}{found.dollars:>13.2f}")
            print("  " + ", ".join(f"{what} {each / found.calls:.3f}" for what, each in found.requests.most_common()))


if __name__ == "__main__":
    main()
