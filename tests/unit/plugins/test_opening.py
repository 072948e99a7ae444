"""Backends, codecs and hooks are made from URLs, names and environment variables."""

import sys

import pytest

import brrr_core as brrr
from brrr_core.backend import Backend, BackendUrl, Duration, Roles, Secret
from brrr_core.backend.memory import MemoryBackend
from brrr_core.codec import Codec
from brrr_core.errors import (
    BackendClosedError,
    BrokenPluginError,
    CodecError,
    OptionError,
    RoleError,
    UnknownSchemeError,
    UrlError,
)
from brrr_core.plugins import load_codec, load_hooks, open_backend, rescan, resolve_roles
from brrr_core.plugins.builtin import MEMORY

OPTIONS = """
from dataclasses import dataclass
from brrr_core.backend import Duration, Secret

@dataclass(frozen=True)
class Options:
    lease: Duration = Duration(30)
    token: Secret | None = None
"""


@pytest.fixture
def foo(site):
    site.module("foo_options", OPTIONS)
    site.backend("brrr-foo", "foo", manifest="manifest('foo', options=__import__('foo_options').Options)")


def roles(*args, environ=None, **keywords):
    return resolve_roles(*args, environ=environ or {}, **keywords)


# One backend


async def test_backend_is_made_closed_with_its_manifest_and_opens_with_async_with():
    backend = open_backend("memory:")
    assert isinstance(backend, MemoryBackend)
    assert backend.manifest is MEMORY
    with pytest.raises(BackendClosedError):
        _ = backend.queue
    async with backend:
        assert backend.queue


@pytest.mark.usefixtures("foo")
def test_backend_receives_typed_options_from_url_and_from_keywords():
    from_url = open_backend("foo://h:1/p?lease=5s&token=s3cret")
    from_keywords = open_backend("foo://h:1/p", lease=5, token=Secret("s3cret"))
    assert from_url.options == from_keywords.options
    assert from_url.options.lease == Duration(5)
    assert from_url.url == BackendUrl("foo", hosts=(("h", 1),), path="/p")


@pytest.mark.usefixtures("foo")
def test_option_in_url_and_as_keyword_is_refused():
    with pytest.raises(OptionError, match="'lease' twice"):
        open_backend("foo:?lease=5s", lease=5)


@pytest.mark.usefixtures("foo")
def test_password_can_come_from_environment(monkeypatch):
    monkeypatch.setenv("FOO_PASSWORD", "s3cret")
    assert open_backend("foo://u@h?password_env=FOO_PASSWORD").url.password == Secret("s3cret")
    with pytest.raises(OptionError, match="in the URL and in password_env"):
        open_backend("foo://u:pw@h?password_env=FOO_PASSWORD")


def test_malformed_url_and_unknown_scheme_raise_different_errors():
    with pytest.raises(UrlError):
        open_backend("brrr.db")
    with pytest.raises(UnknownSchemeError):
        open_backend("qqq:")


@pytest.mark.parametrize(
    ("backend", "says"),
    [
        ("import a_client_library_that_is_not_there", "ModuleNotFoundError"),
        ("", "AttributeError"),
        ("FakeBackend = 5", "cannot be called"),
        ("def FakeBackend(url, options): return 5", "made a int, not a Backend"),
        ("def FakeBackend(url, options): raise ValueError('s3cret')", "it raised ValueError ("),
        ("def FakeBackend(url, options): raise SystemExit('s3cret')", "it raised SystemExit ("),
        ("def FakeBackend(url, options): raise ValueError('s3cret')", "brrr_foo_backend.py, line 1)"),
        ("def FakeBackend(url): pass", "takes 1 positional argument but 2 were given"),
        ("raise SystemExit('no such library')", "SystemExit: no such library"),
    ],
)
def test_backend_that_cannot_be_made_is_broken_plugin(site, backend, says):
    site.backend("brrr-foo", "foo", version="1.2")
    site.module("brrr_foo_backend", backend)
    with pytest.raises(BrokenPluginError, match=r"brrr-foo 1\.2") as caught:
        open_backend("foo:")
    assert says in caught.value.what
    assert "s3cret" not in str(caught.value)


@pytest.mark.usefixtures("foo")
def test_author_sees_text_of_error_of_constructor_without_the_secrets_of_the_url(site):
    source = "\n\ndef FakeBackend(url, options):\n    raise ValueError(f'no host in {url} {url.password.reveal()}')\n"
    site.module("brrr_foo_backend", source)
    (site.root / "brrr_foo-1.0.dist-info" / "direct_url.json").write_text('{"dir_info": {"editable": true}}')
    rescan()

    with pytest.raises(BrokenPluginError) as caught:
        open_backend("foo://me:s3cret@h")

    at = f"{site.root / 'brrr_foo_backend.py'}, line 4"
    assert f"it raised ValueError: no host in foo://****@h **** ({at})" in caught.value.what
    assert caught.value.remedy == "Correct it: it is installed from a checkout."
    assert isinstance(caught.value.__cause__, ValueError)


def test_url_error_of_backend_passes_unchanged(site):
    site.backend("brrr-foo", "foo")
    site.module(
        "brrr_foo_backend",
        "from brrr_core.errors import UrlError\ndef FakeBackend(url, options): raise UrlError('no table')",
    )
    with pytest.raises(UrlError, match="no table"):
        open_backend("foo:")


# Roles


def test_omitted_roles_are_played_by_the_queue():
    found = roles("memory:a")
    assert found.queue is found.store is found.cache
    assert found.owned == (found.queue,)


@pytest.mark.usefixtures("foo")
def test_urls_with_equal_meaning_share_one_backend():
    found = roles("foo://h?lease=60s", "foo://h?lease=1m", "foo://h?lease=61s")
    assert found.queue is found.store
    assert found.cache is not found.queue
    assert found.owned == (found.queue, found.cache)


def test_different_urls_make_different_backends():
    found = roles("memory:a", "memory:b")
    assert found.cache is found.queue
    assert found.owned == (found.queue, found.store)


def test_environment_names_roles_that_the_caller_omits():
    environ = {"BRRR_QUEUE": "memory:q", "BRRR_STORE": "memory:s", "BRRR_CACHE": "memory:c"}
    assert len(set(map(id, roles(environ=environ).owned))) == 3
    found = roles("memory:s", "memory:q", "memory:q", environ=environ)
    assert len(found.owned) == 2
    assert found.cache is found.store


def test_empty_variable_counts_as_unset():
    assert len(roles("memory:", environ={"BRRR_STORE": ""}).owned) == 1


def test_error_for_missing_queue_says_how_to_name_one():
    with pytest.raises(UrlError, match="BRRR_QUEUE"):
        roles(store="memory:")


def test_role_error_lists_schemes_that_offer_the_role_and_imports_no_backend(site):
    site.backend("brrr-queue", "queue", manifest="manifest('queue', roles='q')")
    site.backend("brrr-store", "store", manifest="manifest('store', roles='s')")
    site.module("brrr_bad", "raise RuntimeError('boom')")
    site.metadata("brrr-bad", "[brrr.backends]\nbad = brrr_bad:MANIFEST\n")
    with pytest.raises(RoleError, match="BRRR-PLUGIN-04") as caught:
        roles("queue:", "queue:")
    assert "queue: is a queue, not a store" in caught.value.what
    assert "memory" in caught.value.remedy
    assert "store" in caught.value.remedy.partition("offer one: ")[2]
    assert "queue" not in caught.value.remedy.partition("offer one: ")[2]
    with pytest.raises(RoleError, match="store: is a store, not a queue"):
        roles("store:", "store:")
    with pytest.raises(RoleError, match="queue: is a queue, not a store"):
        roles("queue:")
    with pytest.raises(RoleError, match="not a cache"):
        roles("queue:", "store:")
    assert not {"brrr_queue_backend", "brrr_store_backend"} & set(sys.modules)


def test_store_is_the_cache_if_queue_offers_none(site):
    site.backend("brrr-queue", "queue", manifest="manifest('queue', roles='q')")
    found = roles("queue:", "memory:")
    assert found.cache is found.store


class Handmade(Backend):
    """A backend with a queue only. It is made without a URL, so it has no manifest."""

    async def start(self):
        self._memory = open_backend("memory:")
        await self._memory.open()
        return Roles(queue=self._memory.queue)

    async def stop(self):
        await self._memory.close()


async def test_backend_objects_pass_through_and_are_not_owned():
    async with open_backend("memory:") as mine:
        found = roles(mine, "memory:s")
        assert found.queue is found.cache is mine
        assert found.owned == (found.store,)


async def test_backend_without_manifest_is_asked_for_its_roles_if_open():
    async with Handmade() as queue:
        found = roles(queue, "memory:")
        assert found.cache is found.store
        with pytest.raises(RoleError, match="Handmade is a queue, not a store"):
            roles(queue)
    closed = Handmade()
    assert roles(closed).store is closed


# Codecs


def test_codec_is_loaded_by_name():
    assert isinstance(load_codec("json"), Codec)
    assert type(load_codec("json")) is not type(load_codec("msgpack"))


def test_codec_object_is_returned_unchanged():
    codec = load_codec("json")
    assert load_codec(codec) is codec


class _Foreign:
    """A codec with the methods of another SDK."""

    def encode_call(self, task_name, args, kwargs):
        raise AssertionError("is not called")

    async def invoke_task(self, call, task):
        raise AssertionError("is not called")

    def decode_return(self, name, payload):
        raise AssertionError("is not called")


class _Derived(_Foreign, Codec):
    pass


@pytest.mark.parametrize(
    ("codec", "what"),
    [
        (
            _Foreign(),
            "does not derive from brrr_core.codec.Codec and has no `decode_return` with the keyword `returns`",
        ),
        (_Derived(), "the codec _Derived has no `decode_return` with the keyword `returns`"),
    ],
)
def test_error_for_codec_of_another_sdk_shows_the_lines_to_change(codec, what):
    with pytest.raises(CodecError) as caught:
        load_codec(codec)
    assert what in caught.value.what
    assert "`def decode_return(self, task_name, payload, *, returns=Any):`" in caught.value.remedy
    assert "`keyword_only = True`" in caught.value.remedy


def test_codec_with_changed_lines_is_accepted():
    class Changed(_Derived):
        keyword_only = True

        def decode_return(self, task_name, payload, *, returns=object):
            raise AssertionError("is not called")

    codec = Changed()
    assert load_codec(codec) is codec


@pytest.mark.parametrize("thing", [None, 5, Codec])
def test_object_that_is_not_a_codec_is_refused(thing):
    with pytest.raises(CodecError, match="is not a codec"):
        load_codec(thing)


def test_codec_that_cannot_be_made_is_broken_plugin(site):
    source = "from brrr_core.plugins import CodecManifest\n"
    source += "FOO = CodecManifest(contract=1, name='foo', summary='', codec='brrr_foo:make')\ndef make(): return 5"
    site.module("brrr_foo", source)
    site.metadata("brrr-foo", "[brrr.codecs]\nfoo = brrr_foo:FOO\n")
    with pytest.raises(BrokenPluginError, match=r"brrr-foo 1\.0 has a brrr_foo:make that made a int, not a Codec"):
        load_codec("foo")


# Hooks


HOOKS = """
from brrr_core.hooks import hookimpl

class Log:
    @hookimpl
    def brrr_worker_started(self, event): pass

    @property
    def trap(self): raise AssertionError("does not run")

class Static:
    @staticmethod
    @hookimpl
    def brrr_worker_started(event): pass

@hookimpl
def brrr_worker_started(event): pass

def plain(event): pass

A, B, number = Log(), Log(), 5
"""


@pytest.mark.parametrize(
    ("target", "what"),
    [
        ("hooks_here:number", "has the hooks 'bad', but hooks_here:number has no function marked by hookimpl"),
        ("hooks_here:plain", "hooks_here:plain has no function marked by hookimpl"),
        ("hooks_here:Log", "hooks_here:Log is a class; name an instance"),
        ("brrr_core.plugins.builtin:MEMORY", "has no function marked by hookimpl"),
    ],
)
def test_entry_point_that_is_not_a_hook_is_refused(site, target, what):
    site.module("hooks_here", HOOKS)
    site.metadata("brrr-hooks", f"[brrr.hooks]\nbad = {target}\n", version="4.0")

    with pytest.raises(BrokenPluginError, match=r"brrr-hooks 4\.0") as caught:
        load_hooks()

    assert what in caught.value.what


def test_class_with_static_hooks_is_a_hook(site):
    site.module("hooks_here", HOOKS)
    site.metadata("brrr-hooks", "[brrr.hooks]\na = hooks_here:Static\n")

    assert [hook.name for hook in load_hooks()] == ["a"]


def test_misspelt_group_of_hooks_is_refused(site):
    site.module("hooks_here", HOOKS)
    site.metadata("brrr-hooks", "[brrr.hook]\na = hooks_here:A\n")

    with pytest.raises(BrokenPluginError, match=r"'brrr\.hook', which brrr does not read; the group is 'brrr\.hooks'"):
        load_hooks()


def test_hooks_are_loaded_from_entry_points_sorted_by_name(site):
    site.module("hooks_here", HOOKS)
    site.metadata("brrr-hooks", "[brrr.hooks]\nb = hooks_here:B\na = hooks_here:A\nmodule = hooks_here\n")
    found = load_hooks()
    import hooks_here

    assert [(hook.name, hook.plugin) for hook in found] == [
        ("a", hooks_here.A),
        ("b", hooks_here.B),
        ("module", hooks_here),
    ]
    assert {hook.distribution for hook in found} == {"brrr-hooks"}


def test_no_installed_hooks_give_an_empty_list():
    assert load_hooks() == []


def test_error_for_broken_hook_names_its_distribution(site):
    site.metadata("brrr-hooks", "[brrr.hooks]\nbad = hooks_nowhere:A\n", version="4.0")
    with pytest.raises(BrokenPluginError, match=r"brrr-hooks 4\.0 .*hooks_nowhere"):
        load_hooks()


# Opened roles


async def test_opened_roles_are_used_directly_and_stay_open():
    async with open_backend("memory:") as backend:
        found = roles(backend.queue, backend.store, backend.cache)
        assert found.owned == ()
        assert (found.queue.queue, found.store.store, found.cache.cache) == (
            backend.queue,
            backend.store,
            backend.cache,
        )
        async with brrr.serve(backend.queue, backend.store, "memory:") as connection:
            assert (connection.queue, connection.store) == (backend.queue, backend.store)
        async with brrr.connect(backend.queue, backend, backend.cache) as connection:
            assert (connection.store, connection.cache) == (backend.store, backend.cache)
        await backend.queue.stats("topic")


async def test_opened_queue_is_refused_as_store():
    async with open_backend("memory:") as backend:
        with pytest.raises(RoleError, match="MemoryQueue is a queue, not a store"):
            roles(backend.queue)
        with pytest.raises(RoleError, match="MemoryStore is a store, not a queue"):
            roles(backend.store)


def test_role_that_is_neither_url_nor_backend_is_refused():
    with pytest.raises(RoleError, match="the store is a int"):
        roles("memory:", 3)
