"""Counting what is asked of AWS, for whoever wants to know what a workload costs.

with metering() as meter:
    ...                      # backends that are opened here are counted, as long as they are open
print(meter.requests, meter.read_units, meter.write_units)
"""

from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final, cast

__all__ = ["Meter", "current_meter", "metering"]


@dataclass(slots=True)
class Meter:
    """What was asked for.

    Attributes:
        requests: How many requests were sent, by service and operation, as in `dynamodb.BatchGetItem`; each attempt
            counts, one that was throttled too.
        read_units: DynamoDB's read units that were consumed, as it says itself.
        write_units: Its write units.
    """

    requests: Counter[str] = field(default_factory=Counter[str])
    read_units: float = 0
    write_units: float = 0

    def sent(self, service: str, operation: str) -> None:
        """One request was sent."""
        self.requests[f"{service}.{operation}"] += 1

    def answered(self, operation: str, answer: Mapping[str, object]) -> None:
        """An answer may say what it consumed: one table's, or a list of them.

        Where it does not say of which kind (DynamoDB tells for transactions and indexes alone), the operation does.
        """
        consumed = answer.get("ConsumedCapacity")
        if not consumed:
            return
        reads = operation in ("BatchGetItem", "GetItem", "Query", "Scan")
        for each in cast("list[dict[str, object]]", consumed if isinstance(consumed, list) else [consumed]):
            units = float(cast("float", each.get("CapacityUnits", 0)))
            if reads:
                self.read_units += units
            else:
                self.write_units += units


METER: Final[ContextVar[Meter | None]] = ContextVar("brrr_aws_meter", default=None)


def current_meter() -> Meter | None:
    """The meter that backends opened now count with, None where nobody counts."""
    return METER.get()


@contextmanager
def metering() -> Generator[Meter]:
    """Count what backends ask for that are opened inside."""
    meter = Meter()
    token = METER.set(meter)
    try:
        yield meter
    finally:
        METER.reset(token)
