"""What README.md promises is so."""

import re
from dataclasses import fields
from pathlib import Path

from brrr_nats.options import NatsOptions

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_every_option_is_in_its_table():
    table = README.partition("## Options")[2].partition("##")[0]
    written = {
        name.removesuffix("_env")
        for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    }

    assert written == {option.name for option in fields(NatsOptions)}
