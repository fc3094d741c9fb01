"""Messages to `logging.getLogger("kdsl")`, without loading `logging` where nobody listens."""

from __future__ import annotations

import sys


def debug(text: str, *args: object) -> None:
    """A detail, formatted with `%` if somebody listens."""
    logging = sys.modules.get("logging")
    if logging is not None:
        logging.getLogger("kdsl").debug(text, *args)


def warning(text: str, *args: object) -> None:
    """Something that the user should know, though the call goes on; shown on stderr by default."""
    import logging

    logging.getLogger("kdsl").warning(text, *args)
