"""Plugins are found by their metadata. Each kind of broken plugin has its own error and remedy."""

import sys
from dataclasses import dataclass, replace
from importlib.metadata import version

import pytest

from brrr_core.codec import CodecManifest
from brrr_core.errors import (
    AlreadyRegisteredError,
    BrokenPluginError,
    ClashError,
    ContractVersionError,
    NotInstalledError,
    UnknownSchemeError,
)
from brrr_core.plugins import (
    REGISTRY,
    backend_manifest,
    codec_manifest,
    list_backends,
    list_codecs,
    open_backend,
    register,
    rescan,
    unregister,
)
from brrr_core.plugins.builtin import MEMORY, MSGPACK
from brrr_core.plugins.scanning import KNOWN_BACKENDS, KNOWN_CODECS

FOO = replace(MEMORY, schemes=("foo", "foos"))


def row_of(name, rows=list_backends):
    return next(row for row in rows() if row.name == name)


def test_plugins_of_the_core_are_found_by_metadata():
    assert backend_manifest("memory") is MEMORY
    assert codec_manifest("msgpack") is MSGPACK
    assert (row_of("memory").distribution, row_of("memory").version) == ("brrr-core", version("brrr-core"))
    own = [row.name for row in list_codecs() if row.distribution == "brrr-core"]
    assert own == ["json", "json-object", "msgpack"]


def test_known_plugins_of_the_core_are_those_that_it_claims():
    assert {name for name, who in KNOWN_BACKENDS.items() if who == "brrr-core"} == {"memory"}
    assert set(KNOWN_CODECS) == {row.name for row in list_codecs()}


def test_installed_backend_is_found_under_all_its_schemes(site):
    site.backend("brrr-foo", "foo", "foo+tls", version="2.5")
    assert backend_manifest("foo").schemes == backend_manifest("foo+tls").schemes == ("foo", "foo+tls")
    assert (row_of("foo").distribution, row_of("foo").version, row_of("foo").error) == ("brrr-foo", "2.5", None)


def test_finding_and_listing_a_backend_does_not_import_it(site):
    site.backend("brrr-foo", "foo")
    backend_manifest("foo")
    assert row_of("foo").error is None
    assert "brrr_foo" in sys.modules
    assert "brrr_foo_backend" not in sys.modules
    open_backend("foo:")
    assert "brrr_foo_backend" in sys.modules


def test_metadata_is_read_once(sites):
    backend_manifest("memory")
    found = REGISTRY.metadata()
    assert REGISTRY.metadata() is found
    rescan()
    assert REGISTRY.metadata() is not found


def test_manifest_is_loaded_once():
    assert REGISTRY.backends.find("memory") is REGISTRY.backends.find("memory")


@pytest.mark.parametrize("find", [backend_manifest, codec_manifest])
def test_uninstalled_plugin_is_gone_after_rescan(site, find):
    codec = "CodecManifest(contract=1, name='foo', summary='', codec='a:b')"
    site.backend("brrr-foo", "foo", manifest="manifest('foo')")
    with (site.root / "brrr_foo.py").open("a") as module:
        module.write(f"from brrr_core.codec import CodecManifest\nCODEC = {codec}\n")
    entries = site.root / "brrr_foo-1.0.dist-info" / "entry_points.txt"
    entries.write_text("[brrr.backends]\nfoo = brrr_foo:MANIFEST\n[brrr.codecs]\nfoo = brrr_foo:CODEC\n")
    rescan()
    assert find("foo")
    entries.unlink()
    rescan()
    with pytest.raises(UnknownSchemeError):
        find("foo")


def test_manifest_is_loaded_only_when_its_scheme_is_looked_up(site):
    site.backend("brrr-foo", "foo")
    site.backend("brrr-bar", "bar")
    backend_manifest("foo")
    assert "brrr_bar" not in sys.modules


# Unknown, and not installed


def test_error_for_unknown_scheme_suggests_nearest_and_lists_installed(site):
    site.backend("brrr-foobar", "foobar")
    with pytest.raises(UnknownSchemeError, match="BRRR-PLUGIN-01") as caught:
        backend_manifest("foobaz")
    assert "'foobaz'" in caught.value.what
    assert "Did you mean 'foobar'?" in caught.value.remedy
    assert "foobar, memory" in caught.value.remedy


def test_suggested_scheme_may_be_one_that_is_not_installed():
    with pytest.raises(UnknownSchemeError, match="Did you mean 'redis'"):
        backend_manifest("redsi")


def test_error_for_unknown_codec_says_codec():
    with pytest.raises(UnknownSchemeError, match=r"the codec 'jsn'\. Did you mean 'json'"):
        codec_manifest("jsn")


@pytest.fixture
def later(monkeypatch):
    """A scheme of a project plugin that is not installed."""
    monkeypatch.setitem(KNOWN_BACKENDS, "later", "brrr-later")
    return "later"


def test_error_for_known_scheme_shows_install_command(later):
    with pytest.raises(NotInstalledError, match="BRRR-PLUGIN-02") as caught:
        backend_manifest(later)
    assert "pip install brrr-later." in caught.value.remedy


def test_error_for_scheme_missing_from_installed_version_shows_upgrade_command(site):
    site.backend("brrr-redis", "redis", version="0.1")
    with pytest.raises(NotInstalledError, match=r"the installed version 0\.1 lacks it") as caught:
        backend_manifest("valkey")
    assert "pip install --upgrade brrr-redis" in caught.value.remedy


# Broken


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("import a_client_library_that_is_not_there", ModuleNotFoundError),
        ("raise RuntimeError('boom')", RuntimeError),
        ("def f(:", SyntaxError),
        ("", AttributeError),
        ("from brrr_core.backend import BackendManifest\nMANIFEST = BackendManifest(colour=1)", TypeError),
    ],
)
def test_error_for_unloadable_manifest_names_distribution_version_and_cause(site, source, cause):
    site.module("brrr_foo", source)
    site.metadata("brrr-foo", "[brrr.backends]\nfoo = brrr_foo:MANIFEST\n", version="3.1")
    with pytest.raises(BrokenPluginError, match="BRRR-PLUGIN-03") as caught:
        backend_manifest("foo")
    assert "brrr-foo 3.1" in caught.value.what
    assert cause.__name__ in caught.value.what
    assert isinstance(caught.value.__cause__, cause)


@pytest.mark.parametrize("error", ["RuntimeError", "SystemExit", "GeneratorExit", "asyncio.CancelledError"])
def test_unused_broken_plugin_disturbs_no_other_and_is_listed_with_its_reason(site, error):
    site.module("brrr_foo", f"import asyncio\nraise {error}('boom')")
    site.metadata("brrr-foo", "[brrr.backends]\nfoo = brrr_foo:MANIFEST\n[brrr.codecs]\nbar = brrr_foo:BAR\n")
    site.backend("brrr-good", "good")
    assert backend_manifest("good").schemes == ("good",)
    assert isinstance(open_backend("memory:").manifest, type(MEMORY))
    assert (row_of("foo").manifest, row_of("foo").distribution) == (None, "brrr-foo")
    assert f"{error.rpartition('.')[2]}: boom" in str(row_of("foo").error)
    assert "boom" in str(row_of("bar", list_codecs).error)
    assert row_of("good").error is None


def test_ctrl_c_while_a_manifest_is_loaded_ends_the_program(site):
    site.module("brrr_foo", "raise KeyboardInterrupt")
    site.metadata("brrr-foo", "[brrr.backends]\nfoo = brrr_foo:MANIFEST\n")
    with pytest.raises(KeyboardInterrupt):
        backend_manifest("foo")


def test_unreadable_metadata_is_reported_only_if_a_plugin_is_missing(site, later):
    site.metadata("brrr-later", "[brrr.backends]\nlater\n")
    assert backend_manifest("memory") is MEMORY
    with pytest.raises(NotInstalledError, match=r"could not be read: .*brrr_later-1\.0\.dist-info"):
        backend_manifest(later)


def test_distribution_without_name_disturbs_no_other(site):
    site.backend("brrr-foo", "foo")
    (site.root / "brrr_foo-1.0.dist-info" / "METADATA").unlink()
    rescan()
    assert backend_manifest("memory") is MEMORY


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("42", "ships a int instead of a BackendManifest"),
        ("manifest", "ships a function"),
        ("manifest()", "with schemes=(); write a tuple of names, at least one"),
        ("manifest('foo', 'My_Server')", "claims 'My_Server'; a name is a lower-case letter, then"),
        ("manifest('foo', 'My_Server')", "such as 'my-server'"),
        ("replace(manifest('foo'), schemes='foo')", "schemes='foo', a str; write a tuple: schemes=('foo',)"),
        ("replace(manifest('foo'), schemes=('foo', 5))", "claims 5; a name is"),
        ("replace(manifest('foo'), schemes=None)", "schemes=None; write a tuple"),
        ("manifest('foo', contract='1')", "contract='1'; write a whole number: contract=1"),
        ("manifest('foo', contract=True)", "contract=True; write a whole number: contract=1"),
        ("manifest('foo', backend=5)", "backend=5, which is not a str"),
        ("replace(manifest('foo'), queue={})", "queue={}, which is not a QueueCapabilities"),
        ("manifest('bar')", "entry point 'foo', but its manifest claims bar"),
        ("manifest('foo', roles='')", "offers no role"),
        ("manifest('foo', backend='nowhere')", "not of the form 'module:attribute'"),
        ("manifest('foo', options=int)", "not a dataclass"),
    ],
)
def test_plugin_with_invalid_manifest_is_broken(site, expression, says):
    site.backend("brrr-foo", "foo", manifest=expression)
    with pytest.raises(BrokenPluginError) as caught:
        backend_manifest("foo")
    assert "brrr-foo 1.0" in caught.value.what
    assert says in caught.value.what


def test_codec_manifest_in_backend_group_is_broken_plugin(site):
    site.metadata("brrr-foo", "[brrr.backends]\nfoo = brrr_core.plugins.builtin:JSON\n")
    with pytest.raises(BrokenPluginError, match="ships a CodecManifest instead of a BackendManifest"):
        backend_manifest("foo")


# Contract version


@pytest.mark.parametrize(("contract", "side"), [(0, "brrr-foo"), (2, "brrr-core")])
def test_error_for_other_contract_version_says_which_side_to_upgrade(site, contract, side):
    site.backend("brrr-foo", "foo", manifest=f"manifest('foo', contract={contract})")
    with pytest.raises(ContractVersionError, match="BRRR-PLUGIN-06") as caught:
        open_backend("foo:")
    assert "brrr-foo 1.0" in caught.value.what
    assert f"pip install --upgrade {side}." in caught.value.remedy
    assert "brrr_foo_backend" not in sys.modules
    assert row_of("foo").error is not None


NEWER = [
    "from brrr_core.backend import BackendManifest\nMANIFEST = BackendManifest(contract=2, schemes=('foo',), colour=1)",
    "from brrr_core.backend import BackendManifest2\nMANIFEST = BackendManifest2(contract=2)",
    "from brrr_foo.manifest import MANIFEST",
]


@pytest.mark.parametrize("source", NEWER, ids=["unknown field", "unknown name", "in another module"])
def test_manifest_for_newer_core_says_to_upgrade_core_even_if_this_core_cannot_make_it(site, source):
    package = site.root / "brrr_foo"
    package.mkdir()
    (package / "__init__.py").write_text(source)
    (package / "manifest.py").write_text(NEWER[0])
    site.metadata("brrr-foo", "[brrr.backends]\nfoo = brrr_foo:MANIFEST\n", version="9.0")

    with pytest.raises(ContractVersionError, match=r"brrr-foo 9\.0 was written for contract version 2") as caught:
        backend_manifest("foo")

    assert "pip install --upgrade brrr-core." in caught.value.remedy
    assert isinstance(row_of("foo").error, ContractVersionError)


def test_import_of_unknown_name_of_core_says_to_upgrade_both(site):
    site.module("brrr_foo", "from brrr_core.backend import NewRole")
    site.metadata("brrr-foo", "[brrr.backends]\nfoo = brrr_foo:MANIFEST\n")

    with pytest.raises(BrokenPluginError, match="pip install --upgrade brrr-core brrr-foo"):
        backend_manifest("foo")


# Names that their authors misspelt


@pytest.mark.parametrize("group", ["brrr.backend", "brrr_backends", "brr.backends", "Brrr.Backends"])
def test_misspelt_entry_point_group_is_reported_with_the_right_one(site, group):
    site.backend("brrr-foo", "foo")
    entries = site.root / "brrr_foo-1.0.dist-info" / "entry_points.txt"
    entries.write_text(entries.read_text().replace("brrr.backends", group))
    rescan()

    with pytest.raises(BrokenPluginError) as caught:
        backend_manifest("foo")

    assert f"brrr-foo 1.0 has 'foo' in the entry-point group {group!r}" in caught.value.what
    assert "the group is 'brrr.backends'" in caught.value.what
    assert isinstance(row_of("foo").error, BrokenPluginError)


def test_group_of_another_program_is_not_a_misspelt_one(site):
    site.metadata("brrr-foo", "[brrr_web.panels]\nfoo = brrr_foo:A\n[console_scripts]\nbrrr-foo = brrr_foo:main\n")

    with pytest.raises(UnknownSchemeError):
        backend_manifest("foo")


def test_claim_in_misspelt_group_takes_no_scheme_from_another_plugin(site):
    site.backend("brrr-foo", "foo")
    site.metadata("other-foo", "[brrr.backend]\nfoo = brrr_other:MANIFEST\n")

    assert backend_manifest("foo").schemes == ("foo",)


def test_entry_point_with_capitals_or_underscores_is_reported_if_its_scheme_is_looked_up(site):
    site.metadata("brrr-foo", "[brrr.backends]\nMy_Foo = brrr_foo:MANIFEST\n")

    with pytest.raises(BrokenPluginError, match=r"brrr-foo 1\.0 claims the scheme 'My_Foo'; a scheme is a lower-case"):
        backend_manifest("my-foo")


# An author's own checkout


@pytest.mark.parametrize(
    "form", ['{"dir_info": {"editable": true}, "url": "file:///x"}', '{"dir_info":{"editable":true}}']
)
def test_error_says_what_and_where_the_author_of_an_editable_plugin_has_to_correct(site, form):
    site.module("brrr_foo", "first = 1\nraise RuntimeError('boom')\n")
    site.metadata("brrr-foo", "[brrr.backends]\nfoo = brrr_foo:MANIFEST\n")
    (site.root / "brrr_foo-1.0.dist-info" / "direct_url.json").write_text(form)
    rescan()

    with pytest.raises(BrokenPluginError) as caught:
        backend_manifest("foo")

    assert f"RuntimeError: boom ({site.root / 'brrr_foo.py'}, line 2)" in caught.value.what
    assert caught.value.remedy == "Correct it: it is installed from a checkout."


# Clash


def test_scheme_of_this_project_stays_with_its_distribution(site):
    site.backend("other-memory", "memory")

    assert backend_manifest("memory") is MEMORY
    ours, theirs = [row for row in list_backends() if row.name == "memory"]
    assert (ours.distribution, ours.error) == ("brrr-core", None)
    assert (theirs.distribution, theirs.version, theirs.manifest) == ("other-memory", "1.0", None)
    assert "belongs to brrr-core, and other-memory 1.0 (other_memory:MANIFEST) claims it too" in str(theirs.error)
    assert "other_memory" not in sys.modules


def test_scheme_of_this_project_is_refused_from_another_distribution(site, later):
    site.backend("other-later", later)

    with pytest.raises(ClashError, match=r"belongs to brrr-later, and other-later 1\.0") as caught:
        backend_manifest(later)

    assert "Use brrr-later" in caught.value.remedy
    assert [row.distribution for row in list_backends() if row.name == later] == ["other-later"]
    assert "other_later" not in sys.modules


def test_two_distributions_with_one_scheme_clash_and_neither_is_used(site):
    site.backend("brrr-foo", "foo")
    site.backend("other-foo", "foo", version="2.0")
    with pytest.raises(ClashError, match="BRRR-PLUGIN-05") as caught:
        backend_manifest("foo")
    assert "brrr-foo 1.0" in caught.value.what
    assert "other-foo 2.0" in caught.value.what
    assert "brrr_foo" not in sys.modules
    assert row_of("foo").distribution in {"brrr-foo, other-foo", "other-foo, brrr-foo"}
    assert isinstance(row_of("foo").error, ClashError)


def test_clash_does_not_affect_other_schemes_of_the_same_distribution(site):
    site.backend("brrr-foo", "foo", "foos")
    site.backend("other-foo", "foo")
    assert backend_manifest("foos").schemes == ("foo", "foos")


def test_two_entry_points_of_one_distribution_with_one_scheme_clash(site):
    site.metadata("brrr-foo", "[brrr.backends]\nfoo = a:A\nfoo = b:B\n")
    with pytest.raises(ClashError, match=r"\(a:A\) and brrr-foo 1\.0 \(b:B\)"):
        backend_manifest("foo")


def test_repeated_entry_point_is_not_a_clash(site):
    site.backend("brrr-foo", "foo", "foo", manifest="manifest('foo')")
    assert backend_manifest("foo").schemes == ("foo",)


def test_first_copy_of_a_distribution_on_the_path_counts(sites):
    sites("stale").backend("brrr_foo", "foo", version="0.9")
    sites("editable").backend("brrr-foo", "foo", version="1.0")
    assert backend_manifest("foo").schemes == ("foo",)
    assert row_of("foo").version == "1.0"


# Registering


def test_registered_manifest_needs_no_metadata(registered):
    registered(FOO)
    assert backend_manifest("foo") is backend_manifest("foos") is FOO
    assert (row_of("foo").distribution, row_of("foo").manifest) == ("", FOO)
    unregister(FOO)
    with pytest.raises(UnknownSchemeError):
        backend_manifest("foo")


def test_registered_codec_needs_no_metadata(registered):
    codec = CodecManifest(contract=1, name="mine", summary="", codec="a:b")
    registered(codec)
    assert codec_manifest("mine") is codec
    assert row_of("mine", list_codecs).manifest is codec


def test_registering_same_manifest_twice_changes_nothing(registered):
    registered(FOO)
    register(FOO)
    assert backend_manifest("foo") is FOO


def test_equal_manifest_object_counts_as_another_manifest(registered):
    registered(FOO)
    with pytest.raises(AlreadyRegisteredError, match="BRRR-PLUGIN-07"):
        register(replace(FOO))


def test_manifest_with_one_taken_scheme_is_not_registered_at_all(registered):
    registered(FOO)
    with pytest.raises(AlreadyRegisteredError, match="'foo' is taken"):
        register(replace(MEMORY, schemes=("bar", "foo", "baz")))
    assert not {"bar", "baz"} & {row.name for row in list_backends()}


def test_installed_scheme_is_taken_even_if_its_plugin_is_broken(site):
    site.module("brrr_foo", "raise RuntimeError('boom')")
    site.metadata("brrr-foo", "[brrr.backends]\nfoo = brrr_foo:MANIFEST\n")
    with pytest.raises(AlreadyRegisteredError, match=r"brrr-foo 1\.0"):
        register(FOO)
    with pytest.raises(AlreadyRegisteredError, match="brrr-core"):
        register(replace(MEMORY))


def test_manifest_of_installed_plugin_can_be_registered(registered):
    registered(MEMORY)
    assert backend_manifest("memory") is MEMORY


def test_unregistering_an_unregistered_manifest_does_nothing(registered):
    registered(FOO)
    unregister(replace(FOO))
    assert backend_manifest("foo") is FOO


@dataclass(frozen=True)
class Odd:
    odd: bytes = b""


@pytest.mark.parametrize(
    ("manifest", "error"),
    [
        (42, BrokenPluginError),
        (replace(FOO, contract=2), ContractVersionError),
        (replace(FOO, contract=0), ContractVersionError),
        (replace(FOO, options=Odd), BrokenPluginError),
        (replace(FOO, schemes=()), BrokenPluginError),
    ],
)
def test_unusable_manifest_is_not_registered(manifest, error):
    with pytest.raises(error, match=r"a registered plugin|received a int"):
        register(manifest)
    assert "foo" not in {row.name for row in list_backends()}
