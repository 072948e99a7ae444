"""The newest aioboto3 beside the distributions, in an environment of its own: it pins an older aiobotocore."""

import subprocess
import sys
from pathlib import Path

import pytest

from brrr_testkit.servers import aws as aws_servers

from .test_wheels import output

pytestmark = pytest.mark.packaging

UV = Path(sys.executable).with_name("uv")
aws_environment = aws_servers.aws_environment
aws_run = aws_servers.aws_run
moto_endpoint = aws_servers.moto_endpoint


@pytest.fixture(scope="module")
def python(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheels with the extra `aioboto3` into an empty environment, and return its interpreter."""
    home = tmp_path_factory.mktemp("user") / "venv"
    interpreter = home / "bin" / "python"
    output(UV, "venv", "--quiet", "--python", sys.executable, home, cwd=built)
    wheels = {path.name.partition("-")[0]: path for path in built.glob("*.whl")}
    wanted = [wheels["brrr_core"], wheels["brrr_aws"]]
    extras = [f"{wheels[name]}[aioboto3]" for name in ("brrr_dynamo", "brrr_sqs")]
    output(UV, "pip", "install", "--quiet", "--python", interpreter, *wanted, *extras, cwd=built)
    return interpreter


def test_extra_installs_the_newest_aioboto3(python: Path, tmp_path: Path) -> None:
    newest = subprocess.run(
        [UV, "pip", "compile", "--quiet", "--no-deps", "--no-header", "--no-annotate", "--python", python, "-"],
        input="aioboto3", capture_output=True, text=True, check=True, timeout=300, cwd=tmp_path,
    ).stdout.strip()  # fmt: skip

    assert newest in output(UV, "pip", "freeze", "--python", python, cwd=tmp_path).splitlines()


def test_program_passes_its_session(python: Path, moto_endpoint: str, tmp_path: Path) -> None:
    program = Path(__file__).with_name("with_aioboto3.py")
    result, tables = output(
        "env", *(f"--unset={name}" for name in aws_servers.DUMMY), "AWS_EC2_METADATA_DISABLED=true",
        python, program, moto_endpoint, cwd=tmp_path,
    ).splitlines()  # fmt: skip

    assert result == "42"
    assert "aioboto3" in tables
