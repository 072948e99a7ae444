"""Run the contract kit on each backend of this project, and renew their entries of docs/reference/plugins.md.

`make plugins` runs it. It starts the servers of the tests, and needs some minutes.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from brrr_testkit.servers import nats, redis
from brrr_testkit.servers.aws import dummies, dynamo_url, sqs_url
from brrr_testkit.servers.emulators import DynamoLocal, Moto, shared
from tools import plugins_page

BIN: Final = Path(sys.executable).parent


def main() -> int:
    """Run the kit on each backend, write the page, and return the exit status."""
    with tempfile.TemporaryDirectory() as name, dummies():
        folder = Path(name)
        reports = [run(url, folder / f"{number}.json") for number, url in enumerate(urls(folder))]
        return plugins_page.main([str(report) for report in reports])


def urls(folder: Path) -> Iterator[str]:
    """Yield a URL of each backend, and stop its server afterwards."""
    yield "memory:"
    yield f"sqlite:///{folder}/brrr.db"  # four slashes: an absolute path
    with ExitStack() as stack:
        yield stack.enter_context(started(redis.Server(redis.valkey_program(), folder / "valkey")))
        yield stack.enter_context(started(nats.Server(folder / "nats")))
        yield dynamo_url("kit", stack.enter_context(shared(DynamoLocal, folder)))
        yield sqs_url("kit", stack.enter_context(shared(Moto, folder)))


@contextmanager
def started(server: redis.Server | nats.Server) -> Iterator[str]:
    """Start a server, and stop it afterwards."""
    try:
        yield server.start().url
    finally:
        server.kill()


def run(url: str, report: Path) -> Path:
    """Set a backend up, and run the kit on it. The page refuses it if a rule fails."""
    brrr = BIN / "brrr"
    subprocess.run([brrr, "setup", url], check=True)
    print(f"brrr contract {url}", flush=True)
    ended = subprocess.run([brrr, "contract", url, "--json", report], check=False, stdout=subprocess.PIPE, text=True)
    print(ended.stdout if ended.returncode else ended.stdout.splitlines()[-1], flush=True)
    return report


if __name__ == "__main__":
    sys.exit(main())
