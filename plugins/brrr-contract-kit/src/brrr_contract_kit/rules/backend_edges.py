"""Rules BACKEND-FAIL, BACKEND-OPTION, BACKEND-PROC and BACKEND-MANIFEST."""

import json
import os
import pickle
import subprocess
import sys
from asyncio import to_thread
from functools import partial
from importlib.metadata import entry_points
from typing import Final

from brrr_contract_kit.registry import rule
from brrr_contract_kit.target import option_types
from brrr_contract_kit.testbed.checks import broken, check, equal, refused
from brrr_contract_kit.testbed.context import Context, NotApplicableError, error_of, raised
from brrr_contract_kit.testbed.servers import (
    FAIL_GRACES,
    backend_at,
    opening_once,
    silent_server,
    unreachable,
)
from brrr_core import open_backend
from brrr_core.backend import Duration, Roles, Secret, Size, parse_url
from brrr_core.errors import BackendError, BackendUnavailableError, ForkedError, OptionError


@rule("BACKEND-FAIL-01")
async def reports_unreachable_server(ctx: Context) -> None:
    """If a server cannot be reached, `BackendUnavailableError` names its address and a remedy, in bounded time.

    Why: It is often the first error that a user sees. The engine must also know that it can retry.

    Test: A URL behind which no server answers is opened. The error must be raised within 45 seconds.
    """
    with unreachable(ctx.target) as url:
        async with ctx.within(FAIL_GRACES * ctx.grace, "opening a URL behind which no server answers fails"):
            error = await raised(opening_once(open_backend(url)).open())
        refused(error, BackendUnavailableError, "opening a URL behind which no server answers")
        place = parse_url(url).url
        where = f"{place.hosts[0][1] or place.hosts[0][0]}" if place.hosts else place.path.rpartition("/")[2]
        check(where in str(error), f"the error does not name the unreachable {where!r}: {error}")
        check(bool(getattr(error, "remedy", "")), f"the error has no remedy: {error}")


@rule("BACKEND-FAIL-02")
async def fails_cleanly(ctx: Context) -> None:
    """A failed opening leaves nothing open: closing then does nothing, and the next opening fails in the same way.

    Why: Programs retry until the server is up.

    Test: A URL behind which no server answers is opened three times, and closed in between. The kit then looks for
    leftovers.
    """
    with unreachable(ctx.target) as url:
        backend = opening_once(open_backend(url))
        for _ in range(3):
            async with ctx.within(FAIL_GRACES * ctx.grace, "opening a URL behind which no server answers fails"):
                refused(await raised(backend.open()), BackendError, "opening a URL behind which no server answers")
            await backend.close()


@rule("BACKEND-FAIL-03", limit=120)
async def reports_silent_server(ctx: Context) -> None:
    """If a server accepts connections and sends nothing, opening raises an error of the backend within its timeout.

    Why: Firewalls and overloaded servers behave this way. A worker that hangs at its start is not restarted.

    Test: The URL is opened with the address of a socket that never answers. The rule applies to URLs whose host is a
    server.
    """
    with silent_server() as address:
        _, backend = backend_at(ctx.target, address)
        async with ctx.within(FAIL_GRACES * ctx.grace, "opening a URL whose server is silent fails"):
            error = await raised(backend.open())
        await backend.close()
    refused(error, BackendError, "opening a URL whose server is silent")


@rule("BACKEND-OPTION-01")
async def refuses_options(ctx: Context) -> None:
    """An unknown, repeated or ill-typed option is refused with `OptionError`, before the backend is opened.

    Why: If a misspelt `lease` is ignored, the mistake shows only in production.

    Test: Such options are added to the URL, for every option of the manifest. The number 0 is either accepted or
    refused with the same error.
    """
    url = ctx.target.url
    if url is None:
        raise NotApplicableError("a function makes the backend, so it has no URL")
    mark = "&" if "?" in url else "?"
    given = {name for name, _ in parse_url(url).query}
    wrong, border = ["no_such_option=1"], list[str]()
    for name, kind in option_types(ctx.target.manifest).items():
        if name in given or kind is Secret:
            continue
        wrong.append(f"{name}=x&{name}=x")
        if kind is not str:  # every text is a str
            wrong.append(f"{name}=no-such-value")
        if kind is int or kind is float or kind is Duration or kind is Size:
            border.append(f"{name}=0")
        if kind is Duration or kind is Size:
            wrong.append(f"{name}=-1")
    for options in wrong:
        refused(error_of(partial(open_backend, f"{url}{mark}{options}")), OptionError, f"the options {options!r}")
    for options in border:
        if (error := error_of(partial(open_backend, f"{url}{mark}{options}"))) is not None:
            refused(error, OptionError, f"the option {options!r}")


@rule("BACKEND-PROC-01")
async def refuses_pickling(ctx: Context) -> None:
    """A backend cannot be pickled: `ForkedError` says that its URL must be sent instead.

    Why: A process pool pickles its arguments. If two processes use one connection, their answers mix.

    Test: A backend is pickled before it is opened, and while it is open.
    """
    backend = ctx.target.backend()
    refused(error_of(partial(pickle.dumps, backend)), ForkedError, "pickling a backend")
    async with backend:
        refused(error_of(partial(pickle.dumps, backend)), ForkedError, "pickling an open backend")


@rule("BACKEND-PROC-02")
async def refuses_forking(ctx: Context) -> None:
    """An open backend raises `ForkedError` if a forked process uses it, and still works in its own process.

    Why: Two processes on one socket read each other's answers.

    Test: The process forks, and the child reads the roles. The rule applies if the system can fork.
    """
    if not hasattr(os, "fork"):
        raise NotApplicableError("this system cannot fork")
    backend = await ctx.backend()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            _ = backend.roles
        except ForkedError:
            status = 0
        finally:
            os._exit(status)  # skips the clean-up of the parent process
    _, status = await to_thread(os.waitpid, child, 0)
    check(os.waitstatus_to_exitcode(status) == 0, "a forked process can use the backend of its parent")
    equal(type(backend.roles), Roles, "the type of the roles after a fork")


@rule("BACKEND-MANIFEST-01")
async def carries_manifest(ctx: Context) -> None:
    """A backend carries the manifest that its plugin ships, and the example in the manifest is a URL of the backend.

    Why: The engine and this kit read the capabilities from it.

    Test: The manifest of a backend is compared with that of the registry, and the example is parsed.
    """
    manifest = ctx.target.manifest
    check(ctx.target.backend().manifest == manifest, "the backend does not carry the manifest that its plugin ships")
    scheme = parse_url(manifest.example).url.scheme
    check(scheme in manifest.schemes, f"the example {manifest.example!r} has none of the schemes {manifest.schemes}")
    check(bool(manifest.summary.strip()), "the manifest has no summary")


PROBE: Final = """
import json, sys
from importlib.metadata import entry_points
(entry,) = entry_points(group="brrr.backends", name=sys.argv[1])
manifest = entry.load()
own = {"brrr_core", "bencode2", "msgspec", "pluggy", "__main__", manifest.backend.partition(".")[0].partition(":")[0]}
named = {name.partition(".")[0] for name, module in sys.modules.items() if getattr(module, "__spec__", None)}
print(json.dumps(sorted(named - own - sys.stdlib_module_names - {name for name in named if name.startswith("_")})))
"""


@rule("BACKEND-MANIFEST-02")
async def light_manifest(ctx: Context) -> None:
    """Loading the manifest imports no client library.

    Why: Listing the plugins and choosing among them must be cheap. A broken library must not affect users who do not
    need it.

    Test: A new process loads the manifest. It may then hold only modules of Python, of brrr-core and of the plugin's
    own package. The rule applies to installed plugins.
    """
    url = ctx.target.url
    scheme = None if url is None else parse_url(url).url.scheme
    if scheme is None or not entry_points(group="brrr.backends", name=scheme):
        raise NotApplicableError("the manifest is registered, but not installed")
    command = [sys.executable, "-c", PROBE, scheme]
    bare = [sys.executable, "-c", "import json, sys; print(json.dumps(sorted(sys.modules)))"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    run = partial(subprocess.run, env=environment, capture_output=True, text=True, check=False)
    ran, begun = await to_thread(run, command), await to_thread(run, bare)
    if ran.returncode != 0:
        broken(f"a new process cannot load the manifest: {ran.stderr[-1000:]}")
    # Modules that Python itself starts with, such as finders of editable installs, do not count.
    loaded: set[str] = set(json.loads(ran.stdout)) - {name.partition(".")[0] for name in json.loads(begun.stdout)}
    equal(sorted(loaded), list[str](), "the foreign modules that loading the manifest imports")
