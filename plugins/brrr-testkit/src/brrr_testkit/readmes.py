"""Read facts from the README of a plugin, for tests that check them."""

import re


def options_of(readme: str) -> set[str]:
    """Return the options in the table of a README, without the suffix `_env`."""
    table = readme.partition("## Options")[2].partition("##")[0]
    return {
        name.removesuffix("_env")
        for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    }
