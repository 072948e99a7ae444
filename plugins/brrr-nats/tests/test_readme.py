"""What README.md promises is so."""

from dataclasses import fields
from pathlib import Path

from brrr_nats.options import NatsOptions
from tests.support.readmes import options_of

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_every_option_is_in_its_table():
    assert options_of(README) == {option.name for option in fields(NatsOptions)}
