"""Counters of requests to AWS and of consumed capacity, to find out what a workload costs.

with metering() as meter:
    ...                      # counts for the backends that are opened here, as long as they are open
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
    """Counts of requests and capacity units.

    Attributes:
        requests: Number of requests by service and operation, such as `dynamodb.BatchGetItem`. Each attempt counts,
            throttled ones too.
        read_units: Read units that DynamoDB reported as consumed.
        write_units: Write units that DynamoDB reported as consumed.
    """

    requests: Counter[str] = field(default_factory=Counter[str])
    read_units: float = 0
    write_units: float = 0

    def sent(self, service: str, operation: str) -> None:
        """Count one request."""
        self.requests[f"{service}.{operation}"] += 1

    def responded(self, operation: str, response: Mapping[str, object]) -> None:
        """Count the capacity that a response reports, for one table or for a list of tables.

        DynamoDB names the kind of the units only for transactions and indexes, so the operation decides it.
        """
        consumed = response.get("ConsumedCapacity")
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
    """Return the meter for backends that are opened now, or None outside `metering`."""
    return METER.get()


@contextmanager
def metering() -> Generator[Meter]:
    """Count the requests of the backends that are opened inside the block."""
    meter = Meter()
    token = METER.set(meter)
    try:
        yield meter
    finally:
        METER.reset(token)
