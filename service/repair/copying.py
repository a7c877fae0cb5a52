"""Copies a folder so that the copy can be corrected, whatever the modes of the folder's own files are.

Knows no file format.
"""

import shutil
from pathlib import Path

LOCK = "checkpoint.lock.json"


def copy_folder(source: Path, target: Path) -> None:
    """Copy a folder without its lock, which says what the folder holds and not what the copy will hold.

    Args:
        source: The folder, which may be read-only.
        target: Where to write; must not exist.

    Raises:
        OSError: A file cannot be read or written.
    """
    ignored = shutil.ignore_patterns(LOCK)
    shutil.copytree(source, target, ignore=ignored, copy_function=shutil.copyfile, ignore_dangling_symlinks=True)
    for folder in (target, *(path for path in target.rglob("*") if path.is_dir())):
        folder.chmod(folder.stat().st_mode | 0o700)
