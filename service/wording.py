"""Cleans the texts of libraries before they are shown.

Knows what a path looks like, and nothing of who speaks.
"""

import re

FOLDERS = re.compile(r"(?:(?<![A-Za-z0-9_./~])|(?<=file://)|(?<=[^:/]/))/(?:[^\s/'\"<>]+/)+")
"""An absolute path up to its last name: at the start of a word, as an address, or pasted behind an address."""


def without_folders(text: str) -> str:
    """Cut the folders in front of every absolute path: what is shown must not describe the machine."""
    return FOLDERS.sub("", text)
