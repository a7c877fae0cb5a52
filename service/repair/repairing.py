"""Copies a folder, corrects the copy by what the audit found, and audits the copy.

Decides which corrections apply; how each is made is told by the modules beside this one.
"""

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from service.audit.check import BaseView
from service.audit.judging import audit
from service.audit.trust import is_tokenizer_sound
from service.checkpoint.locating import Location
from service.checkpoint.reading import read_checkpoint
from service.domain.facts import AdapterFacts, BaseFacts, CheckpointFacts
from service.domain.judgement import BASE, Finding, Report, Severity, adapter_subject
from service.overlay import TOKENIZER_FILES
from service.repair.adapters import correct_config, rename_keys
from service.repair.change import Change
from service.repair.copying import copy_folder
from service.repair.grafting import graft_tensors, what_to_graft
from service.repair.lost_config import Rebuilt, rebuild_config
from service.repair.minicpmv import correct_minicpmv, stops_of
from service.repair.models import add_origin_stops, complete_files, complete_stop_set, correct_ids, weights_of
from service.repair.rows import initialise_rows, why_no_start
from service.repair.settings import restore_config
from service.repair.tokenizers import restore_tokenizer

RECORD = "repair.json"
CONFIG, ADAPTER_CONFIG = "config.json", "adapter_config.json"
SERVED = "served_model"
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
        is_tied: Input and output matrix are one.
        initialised: Tokens whose input rows were given a start and are not trained, by id.
        startable: Tokens whose untrained input rows `--initialise-rows` would give one, likewise.
        declined: Corrections that would have hidden a loss, and why.
        earlier: Records of repairs that the folder had been through already.
        uncertain: What was taken without proof, and what the operator must fill in.
        proposed: A config that was not written, as a value of it is not known.
    """

    changes: tuple[Change, ...]
    before: Report
    after: Report
    is_tied: bool
    initialised: Mapping[int, str] = field(default_factory=dict)
    startable: Mapping[int, str] = field(default_factory=dict)
    declined: tuple[str, ...] = ()
    earlier: tuple[Mapping[str, Any], ...] = ()
    uncertain: tuple[str, ...] = ()
    proposed: Mapping[str, Any] | None = None

    @property
    def remaining(self) -> tuple[Finding, ...]:
        """Findings that still refuse the copy, or the base that it is for."""
        return tuple(one for one in self.after.findings() if one.severity is Severity.FATAL)

    @property
    def doubts(self) -> tuple[Finding, ...]:
        """Warnings about the copy."""
        return tuple(one for one in self.after.findings() if one.severity is Severity.WARNING)


def repair_model(model: Location, origin: Location | None, copy: Path) -> Repaired:
    """Correct a base or merged folder in a copy.

    Args:
        model: The folder.
        origin: What it was tuned from, if that is known.
        copy: Where to write; must not exist.
    """
    copy_folder(model.folder, copy)
    before = read_checkpoint(model, {}, origin=origin)
    first = audit(before)
    place = Location(copy, model.name)
    if SERVED in _checks(first, BASE):  # nothing makes it a model that is served
        return Repaired((), first, first, is_tied=before.base.head is None, earlier=_earlier(before.base))
    changes: list[Change] = []
    declined: list[str] = []
    now = before
    if origin:
        changes, declined = _from_origin(copy, origin.folder, before, _checks(first, BASE))
        now = read_checkpoint(place, {}, origin=origin)
    before_tuning = now.origin.base if now.origin else None
    is_sound = is_tokenizer_sound(BaseView(now.base, None, origin=now.origin))
    if now.base.documents.get(CONFIG):
        changes += correct_ids(copy, now.base, is_tokenizer_sound=is_sound)
    changes += correct_minicpmv(copy, now.base)
    if is_sound:
        changes += complete_stop_set(copy, now.base, before_tuning, stops_of(now.base))
    else:
        changes += add_origin_stops(copy, now.base, before_tuning)
        declined.append("no id was taken from the tokenizer, which the audit refuses")
    after = read_checkpoint(place, {}, origin=origin)
    return Repaired(
        tuple(changes),
        first,
        audit(after),
        is_tied=after.base.head is None,
        declined=tuple(declined),
        earlier=_earlier(before.base),
    )


def repair_adapter(
    adapter: Location, base: Location, copy: Path, *, is_starting_rows: bool = False, alpha: float | None = None
) -> Repaired:
    """Correct an adapter folder in a copy, for the base that it is to be served on.

    Args:
        adapter: The folder.
        base: What it is served on.
        copy: Where to write; must not exist.
        is_starting_rows: Also give input rows that nobody trained a start.
        alpha: `lora_alpha` of its training, for an adapter that lost its config.
    """
    copy_folder(adapter.folder, copy)
    before = read_checkpoint(base, {adapter.name: adapter})
    first = audit(before)
    subject = adapter_subject(adapter.name)
    facts = before.adapters[adapter.name]
    changes = rename_keys(copy, facts) if (copy / "adapter_model.safetensors").is_file() else []
    rebuilt = Rebuilt((), ())
    if facts.documents.get(ADAPTER_CONFIG):
        changes += correct_config(copy, facts, before.base)
    elif facts.lora or facts.full:
        rebuilt = rebuild_config(copy, facts, before.base, alpha)
        changes += rebuilt.changes
    if _checks(first, subject) & TOKENIZER_CHECKS:
        changes += restore_tokenizer(copy, base.folder, facts.tokenizer, before.base.tokenizer)
    place = Location(copy, adapter.name)
    after = read_checkpoint(base, {adapter.name: place})
    last = audit(after)
    own = after.adapters[adapter.name]
    startable, declined = _untrained(last, own), list[str]()
    if startable and (reason := why_no_start(own, after.base)):
        declined = [f"the untrained rows got no start: {reason}"] if is_starting_rows else []
        startable = {}
    if startable and is_starting_rows:
        changes += initialise_rows(copy, own, after.base, base.folder, list(startable))
        after = read_checkpoint(base, {adapter.name: place})
        last, own = audit(after), after.adapters[adapter.name]
        startable = {}
    started = own.embedding_update.started if own.embedding_update else ()
    return Repaired(
        tuple(changes),
        first,
        last,
        is_tied=after.base.head is None,
        initialised={one: text for text, one in own.new_tokens.items() if one in started},
        startable=startable,
        declined=tuple(declined),
        earlier=_earlier(facts),
        uncertain=rebuilt.uncertain,
        proposed=rebuilt.proposed,
    )


def record(repaired: Repaired) -> dict[str, object]:
    """Return what `repair.json` says."""
    return {
        "schema_version": 1,
        "initialised_rows": sorted(repaired.initialised),
        "of": {name: one.fingerprint for name, one in repaired.before.subjects.items()},
        "before": repaired.before.overall.value,
        "after": repaired.after.overall.value,
        "changes": [asdict(one) for one in repaired.changes],
        "declined": list(repaired.declined),
        "uncertain": list(repaired.uncertain),
        "remaining": [f"{one.subject}, {one.check}: {one.message}" for one in repaired.remaining],
        "earlier": [dict(one) for one in repaired.earlier],
    }


def _from_origin(copy: Path, origin: Path, facts: CheckpointFacts, checks: set[str]) -> tuple[list[Change], list[str]]:
    """Take from the origin what the folder lost or got wrong; say what was not taken."""
    known = facts.origin
    if known is None:
        return [], []
    changes: list[Change] = []
    unreadable = {one.file for one in facts.base.problems}
    if not facts.base.documents.get(CONFIG):
        old = "unreadable" if (copy / CONFIG).is_file() else "missing"
        shutil.copyfile(origin / CONFIG, copy / CONFIG)
        changes.append(Change(CONFIG, "the whole file", old, "the origin's", "needed to load"))
    elif checks & CONFIG_CHECKS:
        changes += restore_config(copy, facts.base, known.base)
    if checks & TOKENIZER_CHECKS or facts.base.tokenizer is None or unreadable & set(TOKENIZER_FILES):
        changes += restore_tokenizer(copy, origin, facts.base.tokenizer, known.base.tokenizer)
    is_pictures_wrong = bool(checks & {"picture_settings", "origin"})
    changes += complete_files(copy, origin, unreadable, is_pictures_wrong=is_pictures_wrong)
    lost, declined = what_to_graft(facts.base, known)
    return changes + graft_tensors(copy, weights_of(copy), weights_of(origin), lost), declined


def _untrained(report: Report, adapter: AdapterFacts) -> dict[int, str]:
    """Return the adapter's new tokens whose input rows nobody trained and nobody gave a start, by id."""
    used = report.subjects[adapter_subject(adapter.adapter_id)].used_tokens
    started = adapter.embedding_update.started if adapter.embedding_update else ()
    new = set(adapter.new_tokens.values()) - set(started)
    return {one.token_id: one.text for one in used if one.input_state == "untrained" and one.token_id in new}


def _earlier(facts: BaseFacts | AdapterFacts) -> tuple[Mapping[str, Any], ...]:
    """Return the records of earlier repairs, oldest first."""
    document = facts.documents.get(RECORD, {})
    if not document:
        return ()
    older = document.get("earlier")
    this = {name: value for name, value in document.items() if name != "earlier"}
    return (*(older if isinstance(older, list) else ()), this)


def _checks(report: Report, subject: str) -> set[str]:
    return {one.check for one in report.subjects[subject].findings if one.severity in LOUD}
