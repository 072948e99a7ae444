"""A dead letter keeps its traceback, and no secret of the URLs that the worker was given."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

import brrr_core as brrr
from brrr_core.backend import Backend, BackendManifest, BackendUrl, Secret
from brrr_core.backend.memory import MemoryBackend
from brrr_core.hooks import CallFailed
from brrr_core.plugins import resolve_roles, unregister
from brrr_core.plugins.builtin import MEMORY
from brrr_core.safe_text import TEXT_LIMIT
from brrr_testkit.workloads.fleet import QUICK, TOPIC, serving


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultOptions:
    token: Secret | None = None


def make(url: BackendUrl, options: VaultOptions) -> Backend:
    return MemoryBackend(BackendUrl("memory"))


VAULT = BackendManifest(
    contract=1,
    schemes=("vault",),
    summary="memory behind a password",
    example="vault://host",
    backend="vault_of_tests:make",
    options=VaultOptions,
    queue=MEMORY.queue,
    store=MEMORY.store,
    cache=MEMORY.cache,
)


@pytest.fixture
def vault(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setitem(sys.modules, "vault_of_tests", sys.modules[__name__])
    brrr.register(VAULT)
    yield "vault://user:open%20sesame@host?token=abracadabra"
    unregister(VAULT)


async def test_dead_letter_that_is_cut_inside_a_secret_has_no_part_of_it(vault: str) -> None:
    @brrr.handler_no_arg
    async def tattler(before: int) -> None:
        raise ValueError(f"{'x' * before}abracadabra{'x' * 2 * before}")

    policy = replace(QUICK, max_attempts=1)
    async with serving(vault, {"tattler": tattler}, policy=policy) as fleet:
        for cut in (TEXT_LIMIT, TEXT_LIMIT // 2):
            await fleet.app.schedule(tattler, topic=TOPIC)(cut - len("ValueError: abra"))
        reasons = await fleet.dead(2)
    assert all(len(reason) > TEXT_LIMIT and "abra" not in reason for reason in reasons)


async def test_dead_letters_and_hooks_get_tracebacks_without_the_secrets_of_the_workers_urls(vault: str) -> None:
    @brrr.handler_no_arg
    async def tattler() -> None:
        try:
            raise ConnectionError("AUTH open sesame failed")
        except ConnectionError as error:
            raise ValueError("abracadabra did not help") from error

    failures: list[CallFailed] = []

    class Diary:
        @brrr.hookimpl
        def brrr_call_failed(self, event: CallFailed) -> None:
            failures.append(event)

    policy = replace(QUICK, max_attempts=1)
    async with serving(vault, {"tattler": tattler}, policy=policy, hooks=[Diary()]) as fleet:
        await fleet.app.schedule(tattler, topic=TOPIC)()
        (reason,) = await fleet.dead(1)
    assert [event.reason for event in failures] == [reason]
    assert "AUTH **** failed" in reason
    assert "ValueError: **** did not help" in reason
    assert "sesame" not in reason  # in no line of source that the traceback shows either
    assert "abracadabra" not in reason


def test_secrets_of_backend_objects_are_masked(vault: str) -> None:
    made, own = brrr.open_backend(vault), MemoryBackend(BackendUrl("memory"))
    own.secrets = [Secret("hunter2")]

    assert resolve_roles(made, own).mask("open sesame, abracadabra, hunter2") == "****, ****, ****"
