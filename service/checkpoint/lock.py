"""Reads and writes `checkpoint.lock.json`: what a folder held when somebody found it good.

Does not know what a difference means.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from service.checkpoint.documents import Documents
from service.checkpoint.fingerprint import content_digests, fingerprint
from service.checkpoint.provenance import provenance
from service.domain.facts import Drift, LockFacts, TemplateFacts, TokenizerFacts

LOCK = "checkpoint.lock.json"
SCHEMA_VERSION = 1


def read_lock(folder: Path, digests: Mapping[str, bytes]) -> LockFacts | None:
    """Compare a folder with its lock; None if it has none.

    Args:
        folder: Where the lock is.
        digests: The folder's content as it is now.
    """
    if not (folder / LOCK).is_file():
        return None
    documents = Documents(folder)
    recorded = documents.json(LOCK)
    if documents.problems:
        return LockFacts("", "", (), problem=documents.problems[0].problem)
    if recorded.get("schema_version") != SCHEMA_VERSION:
        return LockFacts(
            "", "", (), problem=f"has schema version {recorded.get('schema_version')!r}, not {SCHEMA_VERSION}"
        )
    files = recorded.get("files")
    if not isinstance(files, dict) or not all(isinstance(one, dict) for one in files.values()):
        return LockFacts("", "", (), problem="lists no files")
    return LockFacts(
        recorded_at=str(recorded.get("recorded_at") or ""),
        fingerprint=str(recorded.get("fingerprint") or ""),
        drifts=tuple(_drifts(folder, digests, files)),
    )


def lock_document(
    folder: Path,
    tokenizer: TokenizerFacts | None,
    template: TemplateFacts | None,
    vocabulary: Mapping[str, Any] | None,
    verdict: str | None,
) -> dict[str, Any]:
    """Describe a folder as it is now. Files are hashed whole, however large.

    Args:
        folder: What to describe.
        tokenizer: Of the folder, if it has one.
        template: Likewise.
        vocabulary: What an adapter changes in the vocabulary; None for a base.
        verdict: Of an audit just now; None if there was none.
    """
    digests = content_digests(folder)
    return {
        "schema_version": SCHEMA_VERSION,
        "recorded_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "tool": f"minicpm-service {version('minicpm-service')}",
        "fingerprint": fingerprint(digests),
        "verdict": verdict,
        "tokenizer": tokenizer_digest(tokenizer),
        "template": template_digest(template),
        "vocabulary": vocabulary,
        "provenance": provenance(folder),
        "files": {name: _entry(folder / name, digest) for name, digest in digests.items()},
    }


def write_lock(document: Mapping[str, Any], path: Path) -> None:
    """Write a lock so that nobody ever sees half of it.

    Raises:
        OSError: The folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(json.dumps(document, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def tokenizer_digest(tokenizer: TokenizerFacts | None) -> str | None:
    """Hash what a tokenizer does: ids, merges and flags; indifferent to how the files spell it."""
    if tokenizer is None:
        return None
    flags = {text: [one.token_id, one.is_special, *one.flags] for text, one in tokenizer.added.items()}
    return _digest([sorted(tokenizer.vocabulary.items()), tokenizer.merges_digest, sorted(flags.items())])


def template_digest(template: TemplateFacts | None) -> str | None:
    """Hash what a template renders; indifferent to how it is written and where it lies."""
    if template is None or not template.is_present:
        return None
    return _digest(sorted((name, list(ids or ())) for name, ids in template.conversations.items()))


def _entry(path: Path, digest: bytes) -> dict[str, Any]:
    with path.open("rb") as file:
        whole = hashlib.file_digest(file, "sha256").hexdigest()
    entry = {"size": path.stat().st_size, "sha256": whole, "sampled": digest.hex()}
    meaning = _meaning(path)
    return {**entry, "meaning": meaning} if meaning else entry


def _drifts(folder: Path, digests: Mapping[str, bytes], files: Mapping[str, Mapping[str, Any]]) -> list[Drift]:
    found = [Drift(name, "missing") for name in files if name not in digests]
    for name, digest in digests.items():
        if name not in files:
            found.append(Drift(name, "new"))
        elif files[name].get("sampled") != digest.hex():
            meaning = files[name].get("meaning")
            found.append(Drift(name, "changed", meaning is not None and meaning == _meaning(folder / name)))
    return found


def _meaning(path: Path) -> str | None:
    """Hash the values of a JSON file, so that another spelling is told from other values."""
    if path.suffix != ".json":
        return None
    documents = Documents(path.parent)
    values = documents.json(path.name)
    return None if documents.problems else _digest(values)


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:32]
