"""The life of the process, as one enum.

Does not know who changes it: only `service.lifecycle` does.
"""

from enum import StrEnum


class Phase(StrEnum):
    """Where the process is in its life; exactly one at a time."""

    LOADING = "loading"
    """The folder is read and judged, then weights are loaded."""
    AUDITING = "auditing"
    """The loaded model is measured and judged."""
    WARMING = "warming"
    """One small picture goes through the real path."""
    READY = "ready"
    """Jobs are admitted."""
    DRAINING = "draining"
    """Jobs in flight finish; new ones are refused."""
    REJECTED = "rejected"
    """The audit refused the base; the process stays up and says why."""
    BROKEN = "broken"
    """Loading failed or the engine died."""
