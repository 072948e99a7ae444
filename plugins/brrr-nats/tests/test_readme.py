"""README.md agrees with the code."""

from dataclasses import fields
from pathlib import Path

from brrr_nats.options import NatsOptions
from brrr_testkit.readmes import options_of

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_readme_lists_every_option():
    assert options_of(README) == {option.name for option in fields(NatsOptions)}
