"""Make inputs for a target from those that are known, and run it on them."""

import random
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

from tests.fuzz.targets import Outcome, Target

__all__ = ["CORPUS", "HANG", "Report", "drive", "read_corpus", "write_corpus"]

CORPUS: Final = Path(__file__).parent / "corpus"
"""One file for each target, with an input on each line, escaped."""

HANG: Final = 5.0
"""Seconds after which an input hangs."""

LONGEST: Final = 4_096
"""The most bytes of an input."""


class Report:
    """The findings of one target.

    Attributes:
        inputs: Number of inputs.
        seconds: Time that they took.
        corpus: An input for each outcome that was seen, the shortest that was found.
        failures: Inputs with an error that is not documented, by the text of the error.
    """

    def __init__(self) -> None:
        self.inputs = 0
        self.seconds = 0.0
        self.corpus: dict[Outcome, bytes] = {}
        self.failures: dict[str, bytes] = {}


def read_corpus(name: str, folder: Path = CORPUS) -> list[bytes]:
    """Return the kept inputs of a target."""
    path = folder / f"{name}.txt"
    lines = path.read_text("ascii").splitlines() if path.exists() else []
    return [line.encode().decode("unicode_escape").encode("latin-1") for line in lines]


def write_corpus(name: str, inputs: Iterable[bytes], folder: Path = CORPUS) -> None:
    """Keep inputs of a target."""
    lines = sorted(data.decode("latin-1").encode("unicode_escape").decode("ascii") for data in set(inputs))
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines), "ascii")


def drive(
    target: Target, inputs: int, *, seed: int, known: Iterable[bytes] = (), each: Callable[[int], None] | None = None
) -> Report:
    """Run a target on its seeds, on known inputs, and on inputs that are made from those.

    Args:
        target: The target.
        inputs: The number of inputs.
        seed: The seed of the random inputs.
        known: Known inputs.
        each: Called with the number of inputs so far, after each thousand.
    """
    report, dice, began = Report(), random.Random(seed), time.perf_counter()
    pool = [*target.seeds, *known]
    for data in _inputs(target, pool, dice, inputs):
        _run(target, data, report, pool)
        report.inputs += 1
        if each is not None and report.inputs % 1_000 == 0:
            each(report.inputs)
    report.seconds = time.perf_counter() - began
    return report


def _inputs(target: Target, pool: list[bytes], dice: random.Random, inputs: int) -> Iterator[bytes]:
    given = pool[:inputs]
    yield from given
    for _ in range(inputs - len(given)):
        data = bytearray(dice.choice(pool))
        for _ in range(dice.choice((1, 1, 2, 3, 8))):
            _change(data, target, pool, dice)
        yield bytes(data[:LONGEST])


def _change(data: bytearray, target: Target, pool: list[bytes], dice: random.Random) -> None:
    """Change one place of an input."""
    at = dice.randint(0, len(data))
    to = min(len(data), at + dice.choice((0, 1, 1, 2, 4, 16)))
    piece = dice.randrange(6)
    if piece == 0:
        data[at:to] = dice.choice(target.words)
    elif piece == 1:
        data[at:to] = dice.randbytes(dice.randint(1, 4))
    elif piece == 2:
        del data[at:to]
    elif piece == 3:
        data[at:at] = data[at:to] * dice.choice((1, 2, 50))
    elif piece == 4:
        other = dice.choice(pool)
        data[at:] = other[dice.randint(0, len(other)) :]
    elif at < len(data):
        data[at] ^= 1 << dice.randrange(8)


def _run(target: Target, data: bytes, report: Report, pool: list[bytes]) -> None:
    try:
        with _bounded():
            outcome = target.run(data)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        report.failures.setdefault(f"{type(error).__name__}: {str(error)[:200]}", data)
        return
    kept = report.corpus.get(outcome)
    if kept is None:
        pool.append(data)
    if kept is None or len(data) < len(kept):
        report.corpus[outcome] = data


@contextmanager
def _bounded() -> Iterator[None]:
    """Raise an error in a block that takes too long."""
    signal.setitimer(signal.ITIMER_REAL, HANG)
    before = signal.signal(signal.SIGALRM, _hangs)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _hangs(_number: int, _frame: FrameType | None) -> None:
    raise TimeoutError(f"the input took longer than {HANG:g} s")
