"""Translation of the errors of a client library into those of brrr."""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import TypeVar

from brrr_core.errors import BrrrError

__all__ = ["causes_of", "translating"]

ErrorT = TypeVar("ErrorT", bound=Exception)


@contextmanager
def translating(
    kinds: type[ErrorT] | tuple[type[ErrorT], ...], translate: Callable[[ErrorT], BrrrError]
) -> Generator[None]:
    """Replace an error that the block raises by the one that `translate` returns, with the original as its cause.

    Errors of brrr, and errors of other kinds, pass unchanged.

    Args:
        kinds: The classes of the client library's errors.
        translate: Returns the error for the user: with the server's address, what happened, and what to do.
    """
    try:
        yield
    except BrrrError:
        raise
    except kinds as error:
        raise translate(error) from error


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes, the most recent first. A chain of causes and contexts can be a ring."""
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or each.__context__
