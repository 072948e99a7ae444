"""SIGTERM: heard once a loop, on behalf of all connections that work on it."""

import asyncio
import signal
import threading
from collections.abc import Callable
from typing import Final
from weakref import WeakKeyDictionary

__all__ = ["heed", "ignore"]

Stop = Callable[[], None]

# The one state of this module: a signal belongs to the process, and connections that were opened apart meet here.
_stops: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, list[Stop]]] = WeakKeyDictionary()


def heed(stop: Stop) -> None:
    """Call `stop` on SIGTERM, until it is ignored.

    Only in the main thread of a process that has set no handler of its own: a programme that has one decides itself.
    """
    loop = asyncio.get_running_loop()
    stops = _stops.get(loop)
    if stops is not None:
        stops.append(stop)
        return
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        return
    heard = [stop]
    try:
        loop.add_signal_handler(signal.SIGTERM, _tell, heard)
    except NotImplementedError:  # Windows, whose event loops know no signals
        return
    _stops[loop] = heard


def ignore(stop: Stop) -> None:
    """Call `stop` no more. The last one gives the signal back its default."""
    loop = asyncio.get_running_loop()
    stops = _stops.get(loop)
    if stops is None or stop not in stops:
        return
    stops.remove(stop)
    if not stops:
        del _stops[loop]
        loop.remove_signal_handler(signal.SIGTERM)


def _tell(stops: list[Stop]) -> None:
    for stop in list(stops):
        stop()
