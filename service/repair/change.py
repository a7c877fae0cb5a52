"""What was changed in a copy, in the words of the record.

Knows no file format.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Change:
    """One correction.

    Attributes:
        file: The file of the copy.
        what: The key, tensor or token.
        old: The value before; None if there was none.
        new: The value now.
        reason: Why this value is right.
    """

    file: str
    what: str
    old: Any
    new: Any
    reason: str
