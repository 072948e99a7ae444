"""Processes of an engine: start and stop them, and read the CPU time and peak memory of a process and its children.

CPU time and memory come from `/proc`. On systems without it they are 0.
"""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

__all__ = ["cpu_seconds", "descendants", "memory_kib", "peak_mib", "reset_peak", "started"]

GRACE: Final = 5.0
"""Seconds that a process has to end after SIGTERM."""


@contextmanager
def started(
    command: Sequence[str],
    log: Path,
    environment: Mapping[str, str],
    *,
    user: int | None = None,
    piped: bool = False,
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a process in a group of its own, and end the whole group with the block.

    Args:
        command: The program and its arguments.
        log: The file for its output, to which it is appended.
        environment: Variables in addition to those of this process.
        user: The id of the user that runs it, or None for the same user.
        piped: Whether standard input and output are pipes.
    """
    pipe = subprocess.PIPE if piped else None
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=pipe or subprocess.DEVNULL,
            stdout=pipe or output,
            stderr=output,
            env={**os.environ, **environment},
            start_new_session=True,
            user=user,
        )
    with process:
        try:
            yield process
        finally:
            _stop(process)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE)
    with suppress(ProcessLookupError):  # children may outlive it, or it did not end
        os.killpg(process.pid, signal.SIGKILL)


def descendants(*roots: int) -> set[int]:
    """Return the ids of the processes `roots` and of all processes below them."""
    parents = {pid: int(fields[1]) for pid in _processes() if (fields := _stat(pid))}
    found: set[int] = set()
    new = {pid for pid in roots if pid in parents}
    while new:
        found |= new
        new = {pid for pid, parent in parents.items() if parent in new} - found
    return found


def cpu_seconds(processes: set[int]) -> float:
    """Return the CPU time of processes, including that of their children that have ended."""
    ticks = sum(sum(map(int, _stat(pid)[11:15])) for pid in processes)  # utime, stime, cutime, cstime
    return ticks / os.sysconf("SC_CLK_TCK")


def reset_peak(processes: set[int]) -> None:
    """Reset the peak memory of processes."""
    for pid in processes:
        with suppress(OSError):
            Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_mib(processes: set[int]) -> float:
    """Return the sum of the peak memory of processes, in MiB. Memory that they share counts for each."""
    return sum(memory_kib("VmHWM", pid) or 0 for pid in processes) / 1024


def memory_kib(field: str, process: int | str = "self") -> int | None:
    """Return a field of the status of a process, such as VmRSS; None if the system or the process does not have it."""
    with suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1])
    return None


def _processes() -> Iterator[int]:
    for entry in Path("/proc").glob("[0-9]*"):
        yield int(entry.name)


def _stat(pid: int) -> list[str]:
    """Return the fields of `/proc/PID/stat` after the name of the program, or none if the process has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return []
