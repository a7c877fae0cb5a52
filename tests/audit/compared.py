"""Tuned folders beside what they were made from: ways of failing that only the comparison shows, and sound edits."""

from tests.audit import compared_broken, compared_sound  # noqa: F401  they register their own
from tests.audit.compared_registry import ADAPTER, BROKEN, ORIGIN, SOUND, Make

__all__ = ["ADAPTER", "BROKEN", "ORIGIN", "SOUND", "Make"]
