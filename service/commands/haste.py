"""What a short command does to its own process, so that it is over sooner.

Knows no verb. None of this is for a process that serves.
"""

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits


@contextmanager
def in_haste() -> Iterator[None]:
    """Collect no cycles for a while, and leave the other processor to other work.

    Vocabularies of 250,000 tokens are walked through again and again otherwise, and threads of the linear algebra that
    wait for their part keep a processor busy.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        if was_enabled:
            gc.freeze()  # what is there stays until the end: walking through it once is too often as well
            gc.enable()


def without_torch() -> None:
    """Let transformers read tokenizers and configs without importing torch, which takes longer than either.

    What needs torch asks another process for it. To be called before transformers is imported.
    """
    if "torch" not in sys.modules:
        sys.modules["torch"] = None  # type: ignore[assignment]  # so the language says: importing it raises ImportError
        os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"  # it would tell people that PyTorch was not found
