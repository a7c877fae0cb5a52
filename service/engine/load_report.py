"""Catches what transformers and PEFT say while loading, so that it reaches the report and not only a log.

Does not judge what is said.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

from service.domain.facts import LoadWarning
from service.wording import without_folders

SOURCES = {"transformers": "transformers", "peft": "peft", "py.warnings": "python"}
"""Loggers that speak while loading, and how the report names them."""
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
WARNING_PLACE = re.compile(r"^/\S+?:\d+: ")


class _Catcher(logging.Handler):
    def __init__(self, source: str, caught: list[LoadWarning]) -> None:
        super().__init__(logging.WARNING)
        self._source = source
        self._caught = caught

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the message once."""
        message = " ".join(record.getMessage().split())
        found = LoadWarning(_source_of(message, self._source), _clean(message))
        if found not in self._caught:
            self._caught.append(found)


@contextmanager
def caught_warnings() -> Iterator[list[LoadWarning]]:
    """Collect warnings of the libraries, logged or raised through `warnings`, in order and without repetition."""
    caught: list[LoadWarning] = []
    handlers = {name: _Catcher(source, caught) for name, source in SOURCES.items()}
    logging.captureWarnings(True)
    for name, handler in handlers.items():
        logging.getLogger(name).addHandler(handler)
    try:
        yield caught
    finally:
        for name, handler in handlers.items():
            logging.getLogger(name).removeHandler(handler)
        logging.captureWarnings(False)


def adopt_transformers() -> None:
    """Let transformers log through our handler, without its own and without progress bars; imports it."""
    from transformers.utils import logging as library

    library.disable_default_handler()
    library.enable_propagation()
    library.disable_progress_bar()


def _source_of(message: str, source: str) -> str:
    """Attribute a Python warning to the library whose file it names."""
    if source != "python":
        return source
    return next((one for one in ("peft", "transformers") if f"/{one}/" in message), source)


def _clean(message: str) -> str:
    """Cut colours, the `file.py:12:` in front of a Python warning, and the folders in front of every path."""
    message = COLOUR.sub("", message)
    if WARNING_PLACE.match(message):
        message = WARNING_PLACE.sub("", message)
    return without_folders(message)
