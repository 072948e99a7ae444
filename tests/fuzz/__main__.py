"""Fuzz the parts of brrr that read what others wrote: `make fuzz ARGS="--inputs 1000000"`.

With atheris in the environment, `--atheris` lets the coverage of the code choose the inputs.
"""

import argparse
import random
import resource
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.fuzz.driving import Report, drive, read_corpus, write_corpus
from tests.fuzz.targets import TARGETS

SHARES: Final = {"wire": 35, "url": 20, "time": 10, "codec": 28, "cli": 1, "http": 4, "board": 2}
"""Percentages of the inputs, by target. A command line takes fifty times as long as a record."""

BUILD: Final = Path("build/fuzz")


def main() -> int:
    """Fuzz all targets, or one. Return 1 if an input failed, or if memory grew."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, help="number of inputs of all targets")
    parser.add_argument("--target", choices=TARGETS, help="run one target only, with all inputs")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="repeat a run")
    parser.add_argument("--keep", action="store_true", help="keep an input for each outcome in tests/fuzz/corpus")
    parser.add_argument("--atheris", action="store_true", help="let atheris find inputs first")
    given = parser.parse_args()
    print(f"seed {given.seed}")
    print(f"{'target':8}{'inputs':>10}{'per s':>9}{'outcomes':>10}{'failures':>10}{'memory':>10}")
    total, failed = 0, False
    for name in [given.target] if given.target else TARGETS:
        inputs = given.inputs if given.target else given.inputs * SHARES[name] // 100
        found = _by_coverage(name, inputs) if given.atheris else []
        known = [*read_corpus(name), *found]
        resident: list[int] = []
        report = drive(
            TARGETS[name], inputs, seed=given.seed, known=known, each=lambda _, at=resident: at.append(_resident())
        )
        growth = resident[-1] - resident[len(resident) // 3] if resident else 0
        failed |= _print(name, report, growth)
        total += report.inputs + (inputs if given.atheris else 0)
        if given.keep:
            write_corpus(name, [*report.corpus.values(), *report.failures.values()])
    print(f"{total} inputs")
    return int(failed)


def _print(name: str, report: Report, growth: int) -> bool:
    """Print the line of a target, and its failures. Return whether there are any."""
    speed = report.inputs / report.seconds
    counts = f"{len(report.corpus):10}{len(report.failures):10}"
    print(f"{name:8}{report.inputs:10}{speed:9.0f}{counts}{growth / 2**20:+8.1f} M", flush=True)
    for error, data in report.failures.items():
        print(f"  {error}\n    {data!r}")
    return bool(report.failures)


def _resident() -> int:
    """Return the resident memory in bytes."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * resource.getpagesize()


def _by_coverage(name: str, inputs: int) -> list[bytes]:
    """Return the inputs that atheris found for a target."""
    folder = BUILD / name
    folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate([*TARGETS[name].seeds, *read_corpus(name)]):
        (folder / f"seed-{number}").write_bytes(data)
    command = [sys.executable, "-m", "tests.fuzz.coverage_guided", name, f"-runs={inputs}", "-max_len=4096"]
    prefix = f"-artifact_prefix={BUILD}/{name}-"
    subprocess.run([*command, prefix, "-verbosity=0", "-close_fd_mask=0", str(folder)], check=True)
    return [path.read_bytes() for path in sorted(folder.iterdir())]


if __name__ == "__main__":
    sys.exit(main())
