"""`make profile`: sample sequential and wide work, print the dearest functions, and write the pages of the profiles.

Each profile has a process of its own, with a worker and a client. The servers are not in it. A selection of workloads
or backends leaves the pages as they are.
"""

import argparse
import asyncio
import json
import secrets
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

import brrr_core as brrr
from benchmarks.measure import TOPIC
from benchmarks.peers.report import replace_part
from benchmarks.profiles.flame import flame_graph
from benchmarks.profiles.parts import PARTS, shares
from benchmarks.profiles.sampling import Call, Sampler, Stacks
from benchmarks.servers import valkey
from benchmarks.workloads import HANDLERS, WORKLOADS

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "explanation" / "performance.md"
FOLDER: Final = PAGE.parent / "profiles"
TABLE: Final = ("chain", "steps", "tree")
GRAPHS: Final = ("steps", "tree")
"""The workloads with flame graphs; that of a chain resembles that of steps."""
BACKENDS: Final = {"memory": "memory:", "sqlite": "sqlite:///{folder}/{name}.db", "redis": "{redis}"}


class Profile(NamedTuple):
    """The samples of one workload on one backend, and the number of calls that were made meanwhile."""

    stacks: Stacks
    calls: int


async def sampled(url: str, name: str, seconds: float) -> Profile:
    """Repeat a workload for `seconds` seconds of CPU time, after a run that warms up."""
    workload, sampler, calls = WORKLOADS[name], Sampler(), 0
    async with brrr.serve(url) as connection:
        app = brrr.AppWorker(handlers=HANDLERS, codec="json", connection=connection)
        loop = asyncio.create_task(connection.loop(TOPIC, app.handle))

        async def run() -> None:
            (arguments,) = workload.arguments(secrets.token_hex(4))
            await app.schedule(workload.task, topic=TOPIC)(*arguments)
            await app.result(workload.task)(*arguments)

        await run()
        end = time.process_time() + seconds
        with sampler:
            while time.process_time() < end:
                await run()
                calls += workload.calls
        loop.cancel()
        await asyncio.wait({loop})
    return Profile(sampler.stacks, calls)


def main() -> None:
    """Make the profiles that the command line selects."""
    parser = argparse.ArgumentParser(prog="make profile ARGS=...", description=__doc__)
    parser.add_argument("--backend", action="append", choices=BACKENDS, help="only this one; may be repeated")
    parser.add_argument("--workload", action="append", choices=TABLE, help="only this one; may be repeated")
    parser.add_argument("--seconds", type=float, default=6, help="CPU seconds of each profile (6)")
    parser.add_argument("--top", type=int, default=0, help="print so many functions by their own CPU time (0)")
    chosen = parser.parse_args()
    profiles: dict[tuple[str, str], Profile] = {}
    with tempfile.TemporaryDirectory(prefix="brrr-profile-") as folder, ExitStack() as servers:
        backends = chosen.backend or list(BACKENDS)
        redis = servers.enter_context(valkey(folder)) if "redis" in backends else ""
        for name in chosen.workload or TABLE:
            for backend in backends:
                url = BACKENDS[backend].format(folder=folder, name=name, redis=redis)
                profile = profiles[name, backend] = _in_process(url, name, chosen.seconds)
                print(_row(name, backend, profile), flush=True)
                for line in dearest(profile, chosen.top):
                    print(line)
    if not (chosen.workload or chosen.backend):
        _write(profiles)


def _in_process(url: str, name: str, seconds: float) -> Profile:
    command = [sys.executable, "-m", "benchmarks.profiles", url, name, str(seconds)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    calls, stacks = json.loads(done.stdout)
    return Profile(Counter({tuple(Call(*each) for each in stack): spent for stack, spent in stacks}), calls)


def dearest(profile: Profile, count: int) -> list[str]:
    """Return a line for each of the functions that use the most CPU time themselves: µs per call, and the name."""
    own: Counter[Call] = Counter()
    for stack, spent in profile.stacks.items():
        own[stack[-1]] += spent
    return [
        f"{spent / profile.calls / 1e3:8.1f}  {call.module}:{call.function}" for call, spent in own.most_common(count)
    ]


def _row(name: str, backend: str, profile: Profile) -> str:
    cells = [f"{share:.0%}" for share in shares(profile.stacks).values()]
    return f"| {name} | {backend} | {profile.stacks.total() / profile.calls / 1e3:.0f} | {' | '.join(cells)} |"


def table(profiles: Mapping[tuple[str, str], Profile]) -> str:
    """Return the generated part of the page, in Markdown."""
    lines = [
        f"| workload | backend | µs CPU a call | {' | '.join(PARTS)} |",
        f"| --- | --- | ---: |{' ---: |' * len(PARTS)}",
        *(_row(name, backend, profile) for (name, backend), profile in profiles.items()),
        "",
        "Flame graphs: "
        + ", ".join(
            f"[{name} on {backend}](profiles/{name}-{backend}.svg)" for name, backend in profiles if name in GRAPHS
        )
        + ".",
    ]
    return "\n".join(lines)


def _write(profiles: Mapping[tuple[str, str], Profile]) -> None:
    FOLDER.mkdir(exist_ok=True)
    for (name, backend), profile in profiles.items():
        if name in GRAPHS:
            (FOLDER / f"{name}-{backend}.svg").write_text(flame_graph(profile.stacks, f"{name} on {backend}, CPU time"))
    PAGE.write_text(replace_part(PAGE.read_text(), "profiles", table(profiles)))


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[2] in TABLE:
        found = asyncio.run(sampled(sys.argv[1], sys.argv[2], float(sys.argv[3])))
        print(json.dumps([found.calls, list(found.stacks.items())]))
    else:
        main()
