"""What a short command does to its own process, so that it is over sooner.

Knows no verb. None of this is for a process that serves.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def in_haste() -> Iterator[None]:
    """Collect no cycles for a while: vocabularies of 250,000 tokens are walked through again and again otherwise."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.freeze()  # what is there stays until the end: walking through it once is too often as well
            gc.enable()
