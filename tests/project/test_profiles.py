"""The profiles: samples by CPU time, the parts that they belong to, and flame graphs."""

import threading
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

from benchmarks.profiles.__main__ import FOLDER, Profile, dearest
from benchmarks.profiles.flame import flame_graph
from benchmarks.profiles.parts import part_of, shares
from benchmarks.profiles.sampling import Call, Sampler

HANDLE = Call("asyncio.events", "Handle._run")
DELIVER = Call("brrr_core.engine.worker", "Worker._deliver")
BATCH = Call("brrr_core.engine.batching", "Batcher._run")
ENUM = Call("enum", "Enum.<x>")
MOST = 60_000
"""Bytes of a flame graph in the repository."""


def burn() -> None:
    sum(range(10_000))


def test_sampler_finds_the_function_that_uses_the_cpu() -> None:
    with Sampler() as sampler:
        while not any(stack[-1].function == "burn" for stack in list(sampler.stacks)):
            burn()


def test_time_of_another_thread_belongs_to_the_function_that_it_was_started_for() -> None:
    found = threading.Event()

    def work() -> None:
        while not found.is_set():
            burn()

    thread = threading.Thread(target=work)
    with Sampler() as sampler:
        thread.start()
        while not any(
            len(stack) == 1 and stack[0].function.endswith("<locals>.work") for stack in list(sampler.stacks)
        ):
            burn()
        found.set()
    thread.join()
    assert not any(stack[-1].function == "burn" and stack[0].module == "threading" for stack in list(sampler.stacks))


def test_time_belongs_to_the_innermost_part() -> None:
    assert part_of([HANDLE]) == "event loop"
    assert part_of([HANDLE, DELIVER, ENUM]) == "engine"
    assert part_of([HANDLE, DELIVER, BATCH]) == "batching"
    assert part_of([ENUM]) is None


def test_shares_are_of_all_the_time() -> None:
    found = shares(Counter({(HANDLE, DELIVER): 30, (HANDLE,): 10, (ENUM,): 60}))
    assert (found["engine"], found["event loop"], found["client"]) == (0.3, 0.1, 0)


def test_most_expensive_functions_are_listed_by_their_own_time_per_call() -> None:
    profile = Profile(Counter({(HANDLE, DELIVER): 4_000, (HANDLE,): 9_000, (DELIVER,): 6_000}), calls=2)
    assert dearest(profile, 1) == ["     5.0  brrr_core.engine.worker:Worker._deliver"]


def test_flame_graph_stacks_boxes_as_wide_as_their_share() -> None:
    svg = flame_graph(Counter({(HANDLE, DELIVER): 30, (HANDLE, DELIVER, ENUM): 10, (HANDLE, BATCH): 40}), "a & b")

    boxes = {}
    for group in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}g"):
        title, box = group[0].text, group[1].attrib
        assert title is not None
        boxes[title] = (float(box["x"]), float(box["width"]))
    assert boxes == {
        "asyncio:loop 100.0%": (0, 1_200),
        "engine.batching:Batcher._run 50.0%": (0, 600),
        "engine.worker:Worker._deliver 50.0%": (600, 600),
        "enum:Enum.<x> 12.5%": (600, 150),
    }


def test_flame_graphs_in_the_repository_are_few_and_small() -> None:
    sizes = [Path(each).stat().st_size for each in FOLDER.glob("*.svg")]
    assert 1 <= len(sizes) <= 6
    assert max(sizes) < MOST
