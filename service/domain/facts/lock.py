"""What `checkpoint.lock.json` says about a folder, and where the folder is no longer that.

Knows no consequence.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Drift:
    """One file that is not as it was recorded.

    Attributes:
        file: Its name.
        kind: `changed`, `missing` or `new`.
        is_same_content: A JSON file that was written differently and parses to the same values.
    """

    file: str
    kind: str
    is_same_content: bool = False


@dataclass(frozen=True, slots=True)
class LockFacts:
    """A lock file that was found in a folder.

    Attributes:
        recorded_at: ISO 8601, as the file says.
        fingerprint: The recorded one.
        drifts: Files that differ.
        problem: Why the lock file itself cannot be used, or None.
    """

    recorded_at: str
    fingerprint: str
    drifts: tuple[Drift, ...]
    problem: str | None = None
