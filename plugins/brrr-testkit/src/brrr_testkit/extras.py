"""The error for an optional library that is not installed."""

__all__ = ["MissingExtraError"]


class MissingExtraError(ImportError):
    """A part of the testkit needs a library that one of its extras installs.

    Args:
        library: The name of the library.
        extra: The extra of brrr-testkit that installs it.
    """

    def __init__(self, library: str, *, extra: str) -> None:
        super().__init__(f"{library} is not installed: pip install 'brrr-testkit[{extra}]'", name=library)
