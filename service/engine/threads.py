"""Keeps the processor's cores for the thread that computes the model.

Knows no model. OpenMP gives every thread that computes helpers of its own; once there are more helpers than cores, it
lets all of them sleep between two operations, and waking them takes longer than a small operation: decoding on a CPU
takes twice as long.
"""

import threading

import torch
from threadpoolctl import threadpool_limits

_THREAD = threading.local()


def compute_alone() -> None:
    """Let the calling thread compute without helpers from now on; cheap after the first call."""
    if not getattr(_THREAD, "is_alone", False):
        torch.get_num_threads()  # sets the thread's number of helpers, once and for all
        threadpool_limits(1, user_api="openmp")
        _THREAD.is_alone = True
