"""Hashes a folder's content, so that a report says which files it is about.

Does not know what the files mean. Files of up to 512 MB, adapters among them, are hashed whole. Of larger ones the
size and the first of every 64 MB are hashed, so that a folder of many gigabytes is still read in seconds: a change
that lies between two samples and keeps the size is not seen.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

WHOLE_BYTES = 512_000_000
SAMPLE_BYTES = 1_000_000
SAMPLE_EVERY_BYTES = 64_000_000
RELEVANT_SUFFIXES = (".json", ".jinja", ".safetensors", ".model", ".txt", ".tiktoken", ".py")
RECORDS = frozenset({"checkpoint.lock.json", "merge.json", "repair.json"})
"""What this service writes about a folder is not a part of it."""


def content_digests(folder: Path) -> dict[str, bytes]:
    """Hash a folder's relevant files by name, large ones by samples.

    A file that cannot be read counts as such; whoever needs it says that it is unreadable.
    """
    return {path.name: _content_digest(path) for path in sorted(folder.iterdir()) if is_relevant(path)}


def is_relevant(path: Path) -> bool:
    """Say whether a file decides what is served."""
    return path.is_file() and path.suffix in RELEVANT_SUFFIXES and path.name not in RECORDS


def fingerprint(digests: Mapping[str, bytes]) -> str:
    """Return 16 hexadecimal digits over names and contents, as `content_digests` gives them."""
    digest = hashlib.sha256()
    for name, content in digests.items():
        digest.update(name.encode(errors="surrogateescape"))
        digest.update(content)
    return digest.hexdigest()[:16]


def _content_digest(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size == 0:
            return b"empty"  # or a special file that says so and never ends
        with path.open("rb") as file:
            if size <= WHOLE_BYTES:
                return hashlib.file_digest(file, "sha256").digest()
            digest = hashlib.sha256(str(size).encode())
            for offset in range(0, size, SAMPLE_EVERY_BYTES):
                file.seek(offset)
                digest.update(file.read(SAMPLE_BYTES))
            return digest.digest()
    except OSError:
        return b"unreadable"
