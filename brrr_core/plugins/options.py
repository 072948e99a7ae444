"""Options: the typed settings of a backend, from the query of its URL or from keyword arguments.

A plugin declares its options as a frozen dataclass, the schema. The type of a field is `str`, `int`, `float`, `bool`, a
`Literal` of texts or numbers, an `Enum`, `Duration`, `Size`, `Secret` or `object`, with or without `| None`. A field
without a default is required. A field of the type `object` takes an object that the program has already, such as a
client; only a keyword argument can give it. `__post_init__` checks rules between fields, and raises `ValueError`.
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from typing import Final, NamedTuple, NoReturn, get_type_hints

from brrr_core.backend.options import MASK, Secret
from brrr_core.backend.urls import ENV, PASSWORD
from brrr_core.errors import BrrrError, OptionError
from brrr_core.plugins.values import convert, describe, is_supported, split_optional

__all__ = ["Field", "ReadOptions", "fields_of", "read_options"]

VARIABLE: Final = re.compile(r"[A-Z_][A-Z0-9_]*")
MAX_SHOWN_CHARACTERS: Final = 60


@dataclass(frozen=True, slots=True)
class Field:
    """One option of a schema.

    Attributes:
        name: The name in the dataclass. In a URL, dashes can replace its underscores.
        kind: The type, without `| None`.
        optional: Whether the value can be None.
        required: Whether the option has no default.
    """

    name: str
    kind: object
    optional: bool
    required: bool

    @property
    def textual(self) -> bool:
        """Whether every text is a valid value."""
        return self.kind is str or self.secret

    @property
    def secret(self) -> bool:
        """Whether the value must never be shown."""
        return self.kind is Secret


class ReadOptions(NamedTuple):
    """The result of `read_options`.

    Attributes:
        options: An instance of the schema.
        password: The secret that `password_env` names, if the schema has no option `password`.
    """

    options: object
    password: Secret | None


@cache
def fields_of(schema: type) -> Mapping[str, Field]:
    """Return the options of a schema, by name.

    Raises:
        TypeError: The schema is not a dataclass, or a field has a type that an option cannot have.
    """
    if not is_dataclass(schema):
        raise TypeError(f"the options {schema!r} are not a dataclass")
    hints = get_type_hints(schema, include_extras=True)
    found: dict[str, Field] = {}
    for each in fields(schema):
        kind, optional = split_optional(hints[each.name])
        if not is_supported(kind):
            raise TypeError(f"the option {each.name!r} has the type {hints[each.name]}, which options cannot have")
        required = each.default is MISSING and each.default_factory is MISSING
        found[each.name] = Field(each.name, kind, optional, required)
    return found


def read_options(
    scheme: str,
    schema: type,
    query: Iterable[tuple[str, Secret]],
    keywords: Mapping[str, object],
    *,
    environ: Mapping[str, str] = os.environ,
) -> ReadOptions:
    """Make an instance of `schema` from the query of a URL and from keyword arguments.

    Errors never show the values of secret or unknown options.

    Raises:
        OptionError: An option is unknown, repeated or missing, or has the wrong type, or an environment variable is not
            set.
    """
    known = fields_of(schema)
    given = _gather(scheme, known, [*((name, value.reveal()) for name, value in query), *keywords.items()])
    _read_environment(scheme, known, given, environ)
    values = {name: _convert(scheme, known[name], value) for name, value in given.items() if name in known}
    for field in known.values():
        if field.required and field.name not in values:
            _refuse(scheme, known, f"needs the option {field.name!r}", f"Add {_example(field)}.")
    password = given.get(PASSWORD) if PASSWORD not in known else None
    try:
        return ReadOptions(schema(**values), password if isinstance(password, Secret) else None)
    except BrrrError:
        raise
    except (TypeError, ValueError) as error:
        raise OptionError(
            f"the options of {scheme}: contradict each other: {error}", remedy="Change one of them."
        ) from error


def _gather(scheme: str, known: Mapping[str, Field], pairs: list[tuple[str, object]]) -> dict[str, object]:
    names = _valid_names(known)
    given: dict[str, object] = {}
    for written, value in pairs:
        name = written.replace("-", "_")
        if name not in names:
            from difflib import get_close_matches  # imported for errors only

            near = get_close_matches(name, names, n=1)
            _refuse(scheme, known, f"has no option {_shown(written)}", f"Did you mean {near[0]!r}?" if near else "")
        if name in given:
            _refuse(
                scheme, known, f"has the option {name!r} twice", "Set it once, in the URL or as a keyword argument."
            )
        given[name] = value
    return given


def _read_environment(
    scheme: str, known: Mapping[str, Field], given: dict[str, object], environ: Mapping[str, str]
) -> None:
    """Replace every `NAME_env` by the secret in its environment variable."""
    for indirect in [name for name in given if name.endswith(ENV) and name not in known]:
        name = indirect.removesuffix(ENV)
        variable = given.pop(indirect)
        if name in given:
            what = f"has both {name!r} and {indirect!r}"
            _refuse(scheme, known, what, "Set only one of them.")
        secret = environ.get(variable) if isinstance(variable, str) else None
        if not secret:
            # A user may write the secret itself here. Show the text only if it is clearly the name of a variable.
            shown = variable if isinstance(variable, str) and VARIABLE.fullmatch(variable) else MASK
            what = f"reads {name!r} from the environment variable {shown}, which is not set or is empty"
            _refuse(
                scheme,
                known,
                what,
                f"Set the variable. {indirect} is the name of a variable, as in {indirect}=MY_SECRET.",
            )
        given[name] = Secret(secret)


def _convert(scheme: str, field: Field, value: object) -> object:
    if field.optional and (value is None or (value == "none" and not field.textual)):
        return None
    try:
        return convert(field.kind, value)
    except ValueError as error:
        form, _ = describe(field.kind)
        form += ", or none" if field.optional else ""
        shown = MASK if field.secret or field.kind is object or isinstance(value, Secret) else _shown(value)
        raise OptionError(
            f"the option {field.name!r} of {scheme}: is {shown}, which is not {form}",
            remedy=f"{'Pass' if field.kind is object else 'Write'} it like {_example(field)}.",
        ) from (None if field.secret else error)


def _valid_names(known: Mapping[str, Field]) -> list[str]:
    secrets = [field.name for field in known.values() if field.secret]
    return list(dict.fromkeys([*known, *(name + ENV for name in [*secrets, PASSWORD])]))


def _refuse(scheme: str, known: Mapping[str, Field], what: str, remedy: str) -> NoReturn:
    listing = f"The options of {scheme}: are {', '.join(_valid_names(known))}."
    raise OptionError(f"{scheme}: {what}", remedy=f"{remedy} {listing}".lstrip())


def _example(field: Field) -> str:
    if field.secret:
        return f"{field.name}{ENV}=MY_SECRET"
    if field.kind is object:
        return f"open_backend(URL, {field.name}=…)"
    return f"{field.name}={describe(field.kind)[1]}"


def _shown(value: object) -> str:
    if value is None or isinstance(value, str | int | float):
        text = repr(value)
        return text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[:MAX_SHOWN_CHARACTERS]}… ({len(text)} characters)"
    return f"a {type(value).__name__}"
