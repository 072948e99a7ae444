"""What a million calls cost on AWS: `.venv/bin/python -m benchmarks.cost`, counted on emulators, at published prices.

Requests are counted as they are sent, and DynamoDB's units as it says itself. A worker runs what there is, to its end;
what a waiting worker asks an empty queue for is not in the figures.
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
"""Dollars a DynamoDB write request unit, 1 KB written: on demand, standard tables, us-east-1, since AWS halved it on 1
November 2024. https://aws.amazon.com/dynamodb/pricing/on-demand/, as others quoted it in 2025."""

READ_UNIT: Final = 0.125e-6
"""Dollars a read request unit, 4 KB read consistently, at the same place; halved on the same day."""

REQUEST: Final = 0.40e-6
"""Dollars a request of an SQS standard queue, each 64 KB of it, us-east-1; the first million a month is free.
https://aws.amazon.com/sqs/pricing/, as others quoted it in March and June 2026."""

CONCURRENCY: Final = 100


@dataclass(frozen=True, slots=True)
class Shape:
    """A call graph: its task, its arguments for a run of a name, and its calls."""

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
    """What one run asked for.

    Attributes:
        calls: Calls of the run.
        requests: Requests by service and operation, as in `dynamodb.PutItem`.
        read_units: Of DynamoDB.
        write_units: Of DynamoDB.
    """

    calls: int
    requests: Counter[str]
    read_units: float
    write_units: float

    @property
    def messages(self) -> int:
        """Requests of SQS. Each is one of 64 KB at most: a message of brrr has some hundred bytes, ten are a batch."""
        return sum(number for name, number in self.requests.items() if name.startswith("sqs."))

    @property
    def dollars(self) -> float:
        """What a million such calls cost."""
        run = self.read_units * READ_UNIT + self.write_units * WRITE_UNIT + self.messages * REQUEST
        return run / self.calls * 1e6


async def bill(urls: list[str], shape: Shape, *, concurrency: int = CONCURRENCY) -> Bill:
    """Run a shape once, scheduling included, and count."""
    with metering() as meter:
        async with brrr.serve(*urls, policy=brrr.Policy(spawn_limit=1_000_000)) as connection:
            app = brrr.AppWorker(handlers=HANDLERS, codec="json", connection=connection)
            run = secrets.token_hex(4)
            topic = f"cost-{run}"  # its own: emulators go on with the last poll of another run, and hide what it finds
            arguments = shape.arguments(run)
            meter.requests.clear()
            meter.read_units = meter.write_units = 0
            await asyncio.gather(*(app.schedule(shape.task, topic=topic)(*each) for each in arguments))
            loop = asyncio.create_task(connection.loop(topic, app.handle, concurrency=concurrency))
            while any(await connection.queue.stats(topic)):  # noqa: ASYNC110 - a queue tells nobody that it is empty
                await asyncio.sleep(0.01)
            loop.cancel()
            await asyncio.wait({loop})
            await app.read(shape.task)(*arguments[-1])
    requests = Counter({name: number for name, number in meter.requests.items() if name not in LOOKS})
    return Bill(shape.calls, requests, meter.read_units, meter.write_units)


LOOKS: Final = frozenset({"sqs.GetQueueAttributes", "sqs.GetQueueUrl", "sqs.CreateQueue", "dynamodb.DescribeTable"})
"""What the measuring itself asks for, and opening."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="benchmarks.cost", description=__doc__)
    parser.add_argument("--queue", choices=("sqs", "redis"), default="sqs", help="where the messages are (sqs)")
    parser.add_argument("--shape", action="append", choices=SHAPES, help="only this one; may be repeated")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="brrr-cost-") as folder, ExitStack() as servers:
        store = servers.enter_context(dynamo(folder))
        queue = servers.enter_context((sqs if chosen.queue == "sqs" else valkey)(folder))
        print(
            f"{chosen.queue}+dynamo, concurrency {CONCURRENCY}; a call's requests and units; dollars a million calls, "
            "us-east-1"
        )
        print(f"{'shape':<13}{'write units':>12}{'read units':>12}{'SQS requests':>14}{'$ a million':>13}")
        for name in chosen.shape or list(SHAPES):
            found = asyncio.run(bill([queue, store], SHAPES[name]))
            units = f"{found.write_units / found.calls:>12.2f}{found.read_units / found.calls:>12.2f}"
            print(f"{name:<13}{units}{found.messages / found.calls:>14.2f}{found.dollars:>13.2f}")
            print("  " + ", ".join(f"{what} {each / found.calls:.3f}" for what, each in found.requests.most_common()))


if __name__ == "__main__":
    main()
