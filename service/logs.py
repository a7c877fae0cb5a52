"""JSON lines on standard output, each with the id of the request that it is about.

Knows no prompt, picture or key, and must never be given one.
"""

import logging
import sys
from contextvars import ContextVar
from typing import Any

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request in hand, set by the API's middleware."""

LOGGER = logging.getLogger("service")


class _AddRequestId(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        """Put the current request id into the record."""
        record.request_id = request_id.get()
        return True


def configure(level: str) -> None:
    """Send every logger's records to standard output as JSON; called once by `serve`."""
    handler = logging.StreamHandler(sys.stdout)
    handler.addFilter(_AddRequestId())
    handler.setFormatter(
        JsonFormatter(
            "{asctime}{levelname}{name}{message}{request_id}",
            style="{",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger", "message": "event"},
            datefmt="%Y-%m-%dT%H:%M:%S%z",
            json_ensure_ascii=False,
            reserved_attrs=[*RESERVED_ATTRS, "color_message"],  # uvicorn's line once more, with colours
        )
    )
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "transformers", "peft"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    logging.getLogger("uvicorn.access").disabled = True  # the API's own line says more
    for name in ("httpx", "httpcore", "PIL", "urllib3"):
        logging.getLogger(name).setLevel(logging.WARNING)


def log(level: int, event: str, **fields: Any) -> None:
    """Write one line."""
    LOGGER.log(level, event, extra=fields)
