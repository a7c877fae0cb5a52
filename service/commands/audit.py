"""`audit`: judge folders without loading their weights, or with `--probe` the loaded model too.

Knows no check.
"""

import argparse
import json
import os
import sys
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from service.commands import CONSISTENT, COULD_NOT_RUN, INCONSISTENT

if TYPE_CHECKING:
    from service.domain.facts import CheckpointFacts
    from service.domain.judgement import Report, Waiver

RESERVED = ("base", "merged")
FORMATS = ("text", "json", "html", "junit", "github")


class _CannotRun(Exception):
    """The arguments cannot be used; the message says why and what would work."""


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verb and its arguments."""
    audit = verbs.add_parser(
        "audit",
        help="judge folders without loading their weights",
        description="Exit status: 0 consistent, 1 not, 2 could not run.",
    )
    audit.add_argument("model", metavar="MODEL", help="base or merged model: a folder or hub id@commit")
    audit.add_argument("--base", metavar="BASE", help="the folder that MODEL was tuned from, to compare with")
    audit.add_argument(
        "--adapter", action="append", default=[], metavar="[NAME=]DIR", help="an adapter to judge with it; repeatable"
    )
    audit.add_argument(
        "--merged-from",
        nargs=2,
        metavar=("BASE", "ADAPTER"),
        help="what MODEL is said to be the merge of; computes the merge and compares",
    )
    audit.add_argument("--format", choices=FORMATS, default="text", help="of the report [text]")
    audit.add_argument("--output", type=Path, metavar="FILE", help="write the report there instead of printing it")
    audit.add_argument(
        "--policy",
        choices=("strict", "default", "permissive"),
        default="default",
        help="strict: warnings and skipped checks refuse too; permissive: nothing does [default]",
    )
    audit.add_argument(
        "--corpus", type=Path, metavar="FILE", help="conversations of yours, as JSON lines, in which to count tokens"
    )
    audit.add_argument(
        "--waive",
        action="append",
        default=[],
        metavar="JSON",
        help='accept a finding: {"check": ..., "subject": ..., "reason": ..., "expires": "2027-01-31"}; repeatable',
    )
    audit.add_argument("--probe", action="store_true", help="also load the model and ask it a few questions")
    audit.set_defaults(run=_audit)


def _audit(known: argparse.Namespace, _: list[str]) -> int:
    from service.errors import CheckpointError

    try:
        facts, report = _judge(known)
        text = "" if _is_shown(known) else _rendered(known.format, report, facts)
    except CheckpointError as error:
        print(error.detail, file=sys.stderr)
        return COULD_NOT_RUN
    except _CannotRun as error:
        print(error, file=sys.stderr)
        return COULD_NOT_RUN
    except Exception as error:  # whatever a folder provokes must not look like a verdict
        print(f"the audit itself failed with {type(error).__name__}: {error}; this is a defect", file=sys.stderr)
        return COULD_NOT_RUN
    try:
        _write(known, report, text)
    except _CannotRun as error:
        print(error, file=sys.stderr)
        return COULD_NOT_RUN
    from service.domain.judgement import Verdict

    return CONSISTENT if report.overall is Verdict.CONSISTENT else INCONSISTENT


def _judge(known: argparse.Namespace) -> "tuple[CheckpointFacts, Report]":
    from service.audit.judging import audit
    from service.checkpoint.locating import locate
    from service.checkpoint.reading import read_checkpoint
    from service.commands.haste import in_haste, without_torch
    from service.domain.judgement import Policy
    from service.engine.load_report import adopt_transformers, caught_warnings

    waivers = [_waiver(one) for one in known.waive]
    model, adapters, origin = known.model, _adapters(known.adapter), known.base
    if _is_adapter(model):
        if origin is None:
            raise _CannotRun(
                f"{Path(model).name} is an adapter, not a model; judge it on its base: "
                f"minicpm-service audit BASE --adapter NAME={Path(model).name}"
            )
        model, adapters, origin = origin, {**adapters, _name_of(model): model}, None
    if not known.probe:
        without_torch()
    with in_haste(), caught_warnings():  # what libraries say while reading is judged, or no news
        adopt_transformers()
        places = {name: locate(place) for name, place in adapters.items()}
        base = locate(model)
        facts = read_checkpoint(
            base,
            places,
            origin=locate(origin) if origin else None,
            merged_from=(locate(known.merged_from[0]), locate(known.merged_from[1])) if known.merged_from else None,
            corpus=known.corpus,
        )
    if (corpus := facts.base.corpus) and corpus.skipped:
        number, why = corpus.skipped[0]
        print(
            f"corpus {corpus.name}: {corpus.num_conversations} conversation(s) counted, {corpus.num_skipped} line(s) "
            f"left out, first line {number}: {why}",
            file=sys.stderr,
        )
    report = audit(facts, policy=Policy(known.policy), waivers=waivers)
    if known.probe:
        from service.probe import probe

        loaded = probe(facts, report, base.folder, {name: one.folder for name, one in places.items()})
        report = audit(facts, loaded, Policy(known.policy), waivers) if loaded else report
    return facts, report


def _is_adapter(model: str) -> bool:
    folder = Path(model)
    return (folder / "adapter_config.json").is_file() and not (folder / "config.json").exists()


def _adapters(given: list[str]) -> dict[str, str]:
    """Read `NAME=DIR`; a folder alone is called by its own name."""
    adapters: dict[str, str] = {}
    for one in given:
        name, separator, place = one.partition("=")
        if not separator or Path(one).is_dir():
            if not Path(one).is_dir():
                raise _CannotRun(f"--adapter takes NAME=DIR or a folder, and {one!r} is neither")
            name, place = _name_of(one), one
        if not name or name in RESERVED or name in adapters:
            why = "is taken" if name in adapters else "cannot be used"
            raise _CannotRun(f"--adapter {one!r}: the name {name!r} {why}; write OTHERNAME=DIR")
        adapters[name] = place
    return adapters


def _name_of(place: str) -> str:
    return Path(place).resolve().name


def _waiver(text: str) -> "Waiver":
    from service.domain.judgement import Waiver

    try:
        given = json.loads(text)
        if not isinstance(given, dict) or not set(given) <= {"check", "subject", "reason", "expires"}:
            raise ValueError("it is an object with these keys and no other")
        expires = date.fromisoformat(given["expires"]) if given.get("expires") else None
        waiver = Waiver(str(given["check"]), str(given["subject"]), str(given["reason"]).strip(), expires)
        if not waiver.reason:
            raise ValueError("the reason is empty")
    except (ValueError, KeyError, TypeError) as error:
        why = f"{error} is missing" if isinstance(error, KeyError) else error
        raise _CannotRun(
            '--waive takes {"check": ..., "subject": ..., "reason": ..., "expires": "2027-01-31"}, the last or not, '
            f"not {text[:80]!r}: {why}"
        ) from error
    return waiver


def _rendered(form: str, report: "Report", facts: "CheckpointFacts") -> str:
    if form == "json":
        from service.audit.reports.document import report_json

        return json.dumps(report_json(report), ensure_ascii=False, indent=2, allow_nan=False)
    if form == "html":
        from service.audit.reports.page import report_html

        return report_html(report, facts)
    if form == "junit":
        from service.audit.reports.junit import report_junit

        return report_junit(report)
    if form == "github":
        from service.audit.reports.github import report_github

        return report_github(report)
    from service.audit.reports.text import report_text

    return report_text(report)


def _is_shown(known: argparse.Namespace) -> bool:
    """Say whether the report is printed for people."""
    return known.output is None and known.format == "text"


def _write(known: argparse.Namespace, report: "Report", text: str) -> None:
    if _is_shown(known):
        from service.audit.reports.text import show_report

        show_report(report)
        return
    if known.output is None:
        if text:
            print(text)
        return
    temporary = known.output.with_name(f".{known.output.name}.{os.getpid()}")
    try:
        temporary.write_text(text + "\n", encoding="utf-8")
        temporary.replace(known.output)
    except OSError as error:
        raise _CannotRun(f"{known.output} cannot be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)
    print(f"{report.overall.value}: wrote {known.output}")
