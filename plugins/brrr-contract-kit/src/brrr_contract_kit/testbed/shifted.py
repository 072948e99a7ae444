"""A program that shifts the wall clock of its process, and then runs the agent. The first argument is in seconds.

Libraries in C that read the clock themselves still see the right time. libfaketime would shift theirs, too, but not
every program survives it. This file must run before any other module imports a function of `time`.
"""

import datetime
import runpy
import sys
import time
from typing import Any, Final

SHIFT: Final = int(sys.argv[1])
REAL: Final = dict(vars(time))
RealDate = datetime.date
RealDatetime = datetime.datetime


class _Meta(type):
    """Lets objects of the real class count as objects of the replacement."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, cls.__bases__[0])


class _Datetime(RealDatetime, metaclass=_Meta):
    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return RealDatetime.fromtimestamp(time.time(), tz)

    @classmethod
    def utcnow(cls) -> Any:
        return RealDatetime.now(datetime.UTC).replace(tzinfo=None) + datetime.timedelta(seconds=SHIFT)

    @classmethod
    def today(cls) -> Any:
        return cls.now()


class _Date(RealDate, metaclass=_Meta):
    @classmethod
    def today(cls) -> Any:
        return RealDate.fromtimestamp(time.time())


def _with_shifted_default(name: str) -> Any:
    """Return a function of `time` whose last argument is the present time if it is left out."""
    seconds = name in {"gmtime", "localtime", "ctime"}

    def shifted(*given: Any) -> Any:
        most = 2 if name == "strftime" else 1
        if len(given) < most or given[-1] is None:
            given = (*given[: most - 1], time.time() if seconds else time.localtime())
        return REAL[name](*given)

    return shifted


def _clock(name: str, unit: int) -> Any:
    def shifted(clock: int) -> Any:
        return REAL[name](clock) + (SHIFT * unit if clock == time.CLOCK_REALTIME else 0)

    return shifted


time.__dict__.update(
    {
        "time": lambda: REAL["time"]() + SHIFT,
        "time_ns": lambda: REAL["time_ns"]() + SHIFT * 10**9,
        "clock_gettime": _clock("clock_gettime", 1),
        "clock_gettime_ns": _clock("clock_gettime_ns", 10**9),
        **{name: _with_shifted_default(name) for name in ("gmtime", "localtime", "ctime", "asctime", "strftime")},
    }
)
datetime.__dict__.update({"datetime": _Datetime, "date": _Date})
runpy.run_module("brrr_contract_kit.testbed.agent", run_name="__main__")
