"""Look at brrr in a browser. `Board` is an ASGI application, and `brrr board` serves it."""

from brrr_board.application import Board

__all__ = ["Board"]
