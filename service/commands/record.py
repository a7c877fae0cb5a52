"""`record`: write down what a folder holds, so that a later change is seen.

Knows no file format.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.commands import CONSISTENT, COULD_NOT_RUN, INCONSISTENT

if TYPE_CHECKING:
    from service.domain.facts import BaseFacts, OriginFacts


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verb and its arguments."""
    record = verbs.add_parser(
        "record",
        help="write checkpoint.lock.json, by which a later change of the folder is found",
        description="Exit status: 0 recorded (with --check: unchanged), 1 changed, 2 could not run.",
    )
    record.add_argument("folder", type=Path, metavar="DIR", help="a base, merged, or adapter folder")
    record.add_argument("--base", metavar="BASE", help="what DIR was tuned from, so that its changes are recorded too")
    record.add_argument("--check", action="store_true", help="compare with the lock that is there, and write nothing")
    record.add_argument("--output", type=Path, metavar="FILE", help="write the lock elsewhere")
    record.set_defaults(run=_record)


def _record(known: argparse.Namespace, _: list[str]) -> int:
    from service.errors import CheckpointError

    try:
        return _check(known.folder) if known.check else _write(known)
    except CheckpointError as error:
        print(error.detail, file=sys.stderr)
    except OSError as error:
        name = Path(str(error.filename)).name if error.filename else "standard output"
        print(f"{name} cannot be used: {error.strerror}", file=sys.stderr)
    return COULD_NOT_RUN


def _check(folder: Path) -> int:
    from service.checkpoint.fingerprint import content_digests
    from service.checkpoint.locating import locate
    from service.checkpoint.lock import LOCK, read_lock

    place = locate(str(folder)).folder
    lock = read_lock(place, content_digests(place))
    if lock is None or lock.problem:
        print(f"{LOCK} {lock.problem if lock else 'is missing'}", file=sys.stderr)
        return COULD_NOT_RUN
    drifted = [one for one in lock.drifts if not one.is_same_content]
    for one in lock.drifts:
        print(f"{one.kind}: {one.file}" + (" (same values)" if one.is_same_content else ""))
    print(f"{'changed since' if drifted else 'as recorded on'} {lock.recorded_at}; fingerprint {lock.fingerprint}")
    return INCONSISTENT if drifted else CONSISTENT


def _write(known: argparse.Namespace) -> int:
    from service.checkpoint.locating import locate
    from service.checkpoint.lock import LOCK, lock_document, write_lock
    from service.domain.judgement import Verdict

    folder = locate(str(known.folder)).folder
    tokenizer, template, vocabulary, verdict = _facts(folder, known.base)
    document = lock_document(folder, tokenizer, template, vocabulary, verdict)
    output = known.output or folder / LOCK
    try:
        write_lock(document, output)
    except OSError as error:
        print(f"{output} cannot be written: {error.strerror}", file=sys.stderr)
        return COULD_NOT_RUN
    print(f"recorded {len(document['files'])} files, fingerprint {document['fingerprint']}: {output.name}")
    if verdict == Verdict.INCONSISTENT.value:
        print("recorded as it is, but the audit refuses it: minicpm-service audit says why", file=sys.stderr)
    return CONSISTENT


def _facts(folder: Path, base: str | None) -> tuple[Any, Any, dict[str, Any] | None, str | None]:
    """Read and judge the folder; an adapter without its base is recorded by its files only."""
    from service.audit.judging import audit
    from service.checkpoint.locating import locate
    from service.checkpoint.reading import read_checkpoint
    from service.domain.judgement import adapter_subject
    from service.engine.load_report import adopt_transformers

    adopt_transformers()
    if not (folder / "adapter_config.json").is_file():
        facts = read_checkpoint(locate(str(folder)), {}, origin=locate(base) if base else None)
        changes = _against_origin(facts.base, facts.origin) if facts.origin else None
        return facts.base.tokenizer, facts.base.template, changes, audit(facts).overall.value
    if base is None:
        return None, None, None, None
    name = folder.resolve().name
    facts = read_checkpoint(locate(base), {name: locate(str(folder))})
    adapter = facts.adapters[name]
    report = audit(facts)
    changes = {
        "base_fingerprint": facts.base.fingerprint,
        "new_tokens": dict(adapter.new_tokens),
        "trained_tokens": {module: list(ids) for module, ids in adapter.trainable_tokens.items()},
        **report.subjects[adapter_subject(name)].facts["rows"],
    }
    return adapter.tokenizer, adapter.template, changes, report.verdict(adapter_subject(name)).value


def _against_origin(model: "BaseFacts", origin: "OriginFacts") -> dict[str, Any]:
    """Say what tuning changed in the vocabulary of a merged or fully tuned model."""
    known = origin.base.tokenizer.vocabulary if origin.base.tokenizer else {}
    added = model.tokenizer.added if model.tokenizer else {}
    matrices = {"input": origin.base.embedding, "output": origin.base.head}
    return {
        "base": origin.base.name,
        "base_fingerprint": origin.base.fingerprint,
        "new_tokens": {text: one.token_id for text, one in added.items() if text not in known},
        "changed": [side for side, matrix in matrices.items() if matrix and matrix.tensor in origin.changed],
    }
