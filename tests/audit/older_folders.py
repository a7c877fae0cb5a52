"""MiniCPM-V 2.6, 4.0 and 4.5 in the official layout: all ways of failing and all differences that change nothing."""

from tests.audit import older_adapters, older_bases, older_kinds, older_sound  # noqa: F401  they register their own
from tests.audit.older_registry import BROKEN, SOUND, VERSIONS, copied, official

__all__ = ["BROKEN", "SOUND", "VERSIONS", "copied", "official"]
