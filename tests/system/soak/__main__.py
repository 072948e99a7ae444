"""`make soak`: real faults on real backends. ARGS="--seconds 3600 --backend redis --seed 7"."""

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path

from tests.system.soak.places import PLACES
from tests.system.soak.run import soak


def main() -> int:
    """Run the soak on each backend, one after another. Return 1 if something was lost."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=180.0, help="duration for all backends together")
    parser.add_argument("--backend", action="append", choices=list(PLACES), help="may be given several times")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--workers", type=int, default=3)
    given = parser.parse_args()
    backends, failed = given.backend or list(PLACES), False
    for backend in backends:
        with tempfile.TemporaryDirectory() as folder:
            seconds = given.seconds / len(backends)
            try:
                report = asyncio.run(
                    soak(backend, Path(folder), seconds=seconds, seed=given.seed, workers=given.workers)
                )
            except (AssertionError, TimeoutError) as error:
                failed = True
                print(f"{backend}, seed {given.seed}: LOST: {error!r}", flush=True)
            else:
                print(report.text(), flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
