"""Copies a folder, corrects the copy by what the audit found, and audits the copy.

Decides which corrections apply; how each is made is told by the modules beside this one.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from service.audit.judging import audit
from service.checkpoint.locating import Location
from service.checkpoint.reading import read_checkpoint
from service.domain.facts import CheckpointFacts
from service.domain.judgement import BASE, Finding, Report, Severity, adapter_subject
from service.repair.adapters import correct_config, rename_keys
from service.repair.change import Change
from service.repair.models import (
    complete_files,
    complete_stop_set,
    correct_ids,
    graft_tensors,
    restore_config,
    weights_of,
)
from service.repair.rows import initialise_rows
from service.repair.tokenizers import restore_tokenizer

RECORD = "repair.json"
LOUD = frozenset({Severity.FATAL, Severity.WARNING})
TOKENIZER_CHECKS = frozenset(
    {"special_ids", "tokenizer_faithful", "tokenizer_sound", "tokenizer_unchanged", "token_flags", "chat_template"}
)
CONFIG_CHECKS = frozenset({"model_config", "weights_complete", "origin", "picture_settings"})


@dataclass(frozen=True, slots=True)
class Repaired:
    """What became of a folder.

    Attributes:
        changes: What was changed in the copy, in order.
        before: The audit of the folder.
        after: The audit of the copy.
        remaining: Findings that still refuse the copy.
        is_tied: Input and output matrix are one.
        initialised: Ids of rows that were given a start and are not trained.
    """

    changes: tuple[Change, ...]
    before: Report
    after: Report
    remaining: tuple[Finding, ...]
    is_tied: bool
    initialised: tuple[int, ...] = ()


def repair_model(model: Location, origin: Location | None, copy: Path) -> Repaired:
    """Correct a base or merged folder in a copy.

    Args:
        model: The folder.
        origin: What it was tuned from, if that is known.
        copy: Where to write; must not exist.
    """
    shutil.copytree(model.folder, copy, ignore=shutil.ignore_patterns("checkpoint.lock.json"))
    before = read_checkpoint(model, {}, origin=origin)
    first = audit(before)
    place = Location(copy, model.name)
    changes: list[Change] = []
    if origin:
        changes += _from_origin(copy, origin.folder, before, _checks(first, BASE))
        before_ids = read_checkpoint(place, {}, origin=origin)
    else:
        before_ids = before
    changes += correct_ids(copy, before_ids.base) if (copy / "config.json").is_file() else []
    changes += complete_stop_set(copy, before_ids.base, before_ids.origin.base if before_ids.origin else None)
    after = read_checkpoint(place, {}, origin=origin)
    return _repaired(changes, first, audit(after), BASE, after)


def repair_adapter(adapter: Location, base: Location, copy: Path, *, is_starting_rows: bool = False) -> Repaired:
    """Correct an adapter folder in a copy, for the base that it is to be served on.

    Args:
        adapter: The folder.
        base: What it is served on.
        copy: Where to write; must not exist.
        is_starting_rows: Also give rows that nobody trained a start, and mark them.
    """
    shutil.copytree(adapter.folder, copy, ignore=shutil.ignore_patterns("checkpoint.lock.json"))
    before = read_checkpoint(base, {adapter.name: adapter})
    first = audit(before)
    subject = adapter_subject(adapter.name)
    facts = before.adapters[adapter.name]
    changes = rename_keys(copy, facts) if (copy / "adapter_model.safetensors").is_file() else []
    if (copy / "adapter_config.json").is_file() and "adapter_config.json" in facts.documents:
        changes += correct_config(copy, facts, before.base)
    if _checks(first, subject) & TOKENIZER_CHECKS:
        changes += restore_tokenizer(copy, base.folder, facts.tokenizer, before.base.tokenizer)
    untrained = [one.token_id for one in first.subjects[subject].used_tokens if one.input_state == "untrained"]
    if is_starting_rows and (started := initialise_rows(copy, facts, before.base, base.folder, untrained)):
        changes += started
        marks = {"initialised_rows": sorted(untrained)}
        (copy / RECORD).write_text(json.dumps(marks), encoding="utf-8")  # the audit below must see it already
    after = read_checkpoint(base, {adapter.name: Location(copy, adapter.name)})
    return _repaired(changes, first, audit(after), subject, after)


def record(repaired: Repaired, fingerprints: Mapping[str, str]) -> dict[str, object]:
    """Return what `repair.json` says."""
    return {
        "schema_version": 1,
        "initialised_rows": list(repaired.initialised),
        "of": dict(fingerprints),
        "before": repaired.before.overall.value,
        "after": repaired.after.overall.value,
        "changes": [
            {"file": one.file, "what": one.what, "old": one.old, "new": one.new, "reason": one.reason}
            for one in repaired.changes
        ],
        "remaining": [f"{one.subject}, {one.check}: {one.message}" for one in repaired.remaining],
    }


def _from_origin(copy: Path, origin: Path, facts: CheckpointFacts, checks: set[str]) -> list[Change]:
    """Take from the origin what the folder lost or got wrong."""
    changes: list[Change] = []
    known = facts.origin
    if known is None:
        return changes
    is_config_lost = not (copy / "config.json").is_file() or not facts.base.documents.get("config.json")
    if is_config_lost:
        shutil.copyfile(origin / "config.json", copy / "config.json")
        changes.append(Change("config.json", "the whole file", None, "the origin's", "it could not be read"))
    elif checks & CONFIG_CHECKS:
        changes += restore_config(copy, facts.base, origin, known)
    has_tokenizer = facts.base.tokenizer is not None
    if checks & TOKENIZER_CHECKS or not has_tokenizer:
        changes += restore_tokenizer(copy, origin, facts.base.tokenizer, known.base.tokenizer)
    changes += complete_files(copy, origin, is_pictures_wrong=bool(checks & {"picture_settings", "origin"}))
    lost = tuple(one for one in known.missing if not one.endswith("lm_head.weight") or facts.base.is_tied is False)
    if lost:
        changes += graft_tensors(copy, weights_of(copy), weights_of(origin), lost)
    return changes


def _checks(report: Report, subject: str) -> set[str]:
    return {one.check for one in report.subjects[subject].findings if one.severity in LOUD}


def _repaired(changes: list[Change], before: Report, after: Report, subject: str, facts: CheckpointFacts) -> Repaired:
    found = after.subjects[subject].findings
    remaining = tuple(one for one in found if one.severity is Severity.FATAL)
    is_tied = facts.base.head is None
    adapter = next(iter(facts.adapters.values()), None)
    marked = adapter.documents.get(RECORD, {}).get("initialised_rows") if adapter else None
    return Repaired(tuple(changes), before, after, remaining, is_tied, tuple(marked or ()))
