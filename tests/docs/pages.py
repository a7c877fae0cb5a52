"""Writes the pages of docs/audit from the checks themselves and from what they find: `make docs`. A test holds them.

Every page shows what its check finds in a folder that is broken on purpose: the ways of failing of tests/broken and
tests/audit (compared.py, older_folders.py), run here.
"""

import importlib
import json
import pkgutil
import re
import shutil
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import tests.broken
from service.audit.catalogue import CHECKS
from service.audit.check import Check
from service.audit.judging import audit
from service.audit.reports.document import finding_json, schema
from service.checkpoint.locating import locate
from service.checkpoint.reading import read_checkpoint
from service.demo import demo_root
from service.domain.judgement import Finding
from tests.audit.compared import ADAPTER, BROKEN, ORIGIN
from tests.audit.older_folders import BROKEN as OLDER
from tests.audit.older_folders import official
from tests.audit.sentencepiece_folders import BROKEN as SENTENCEPIECE
from tests.builders import Folders, copy_demo
from tests.docs import ways

FOLDER = Path(__file__).parents[2] / "docs" / "audit"
SCHEMA = "report.schema.json"
MAX_EVIDENCE = 1200
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT[\d:]+\+00:00")


def pages() -> dict[str, str]:
    """Return every file of the folder by name."""
    tried = _ways()
    made = {f"{check.check_id}.md": _page(check, tried[check.check_id]) for check in CHECKS}
    made["README.md"] = _index()
    made["ways-of-failing.md"] = ways.page()
    made[SCHEMA] = json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"
    return made


def write() -> None:
    """Renew the folder."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    wanted = pages()
    for path in FOLDER.iterdir():
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


def _ways() -> dict[str, list[tuple[str, Finding | None]]]:
    """Run every way of failing that files show; return its description and the finding, by check."""
    found: dict[str, list[tuple[str, Finding | None]]] = defaultdict(list)
    names = [one.name for one in pkgutil.iter_modules(tests.broken.__path__) if one.name != "expectation"]
    examples: set[str] = set()
    for name in names:
        case = importlib.import_module(f"tests.broken.{name}")
        check = case.EXPECTED.check
        with tempfile.TemporaryDirectory() as temporary:
            finding = None
            if check not in examples and case.EXPECTED.stage == "files":
                examples.add(check)
                folders = copy_demo(Path(temporary), case.EXPECTED.adapter)
                case.make(folders)
                facts = folders.facts(with_adapter=case.EXPECTED.subject == "adapter")
                finding = next(one for one in audit(facts).findings() if one.check == check)
        found[check].append(((case.__doc__ or "").strip().splitlines()[0], finding))
    for name, compared in BROKEN.items():
        finding = None if compared.check in examples else _compared(name)
        examples.add(compared.check)
        found[compared.check].append((f"With `--{_flag(compared.against)}`: {name.replace('_', ' ')}.", finding))
    for name, older in OLDER.items():
        finding = None if older.check in examples else _of_older(name)
        examples.add(older.check)
        found[older.check].append((f"MiniCPM-V {older.version}: {name.replace('_', ' ')}.", finding))
    for name in SENTENCEPIECE:
        found["tokenizer_faithful"].append((f"A SentencePiece vocabulary: {name.replace('_', ' ')}.", None))
    return found


def _flag(against: str) -> str:
    return "base" if against == "origin" else "merged-from"


def _compared(name: str) -> Finding:
    case = BROKEN[name]
    with tempfile.TemporaryDirectory() as temporary:
        folders = Folders(Path(temporary) / "merged", ADAPTER)
        shutil.copytree(demo_root() / "merged", folders.base)
        case.make(folders)
        origin, adapter = locate(str(ORIGIN)), locate(str(ADAPTER))
        merged = (origin, adapter) if case.against == "merge" else None
        facts = read_checkpoint(locate(str(folders.base)), {}, origin=origin, merged_from=merged)
        return next(one for one in audit(facts).findings() if one.check == case.check)


def _of_older(name: str) -> Finding:
    case = OLDER[name]
    with tempfile.TemporaryDirectory() as temporary:
        folders = official(case.version, Path(temporary))
        case.make(folders)
        facts = folders.facts(with_adapter=case.subject == "adapter")
        return next(one for one in audit(facts).findings() if one.check == case.check)


def _page(check: Check, ways: list[tuple[str, Finding | None]]) -> str:
    subjects = [name for name, rule in (("base", check.of_base), ("adapters", check.of_adapter)) if rule]
    needs = [
        text
        for is_needed, text in (
            (check.needs_loaded, "the loaded model (`--probe`, or the service itself)"),
            (check.needs_origin, "`--base` or `--merged-from`"),
            (check.needs_merge, "`--merged-from`"),
        )
        if is_needed
    ]
    lines = [f"# {check.check_id}", "", f"**{check.title}.**", "", check.why.strip(), ""]
    lines += [f"Judges: {' and '.join(subjects)}." + (f" Needs {needs[-1]}." if needs else ""), ""]
    if ways:
        lines += ["## Ways of failing that the tests try", "", *(f"- {text}" for text, _ in ways), ""]
    if example := next((one for _, one in ways if one), None):
        lines += ["## What a finding looks like", "", *_example(example), ""]
    return "\n".join(lines)


def _example(finding: Finding) -> list[str]:
    message = MOMENT.sub("2026-11-24T12:00:00+00:00", finding.message)
    evidence = json.dumps(_rounded(finding_json(finding)["evidence"]), ensure_ascii=False, indent=2)
    if len(evidence) > MAX_EVIDENCE:
        evidence = evidence[:MAX_EVIDENCE].rsplit("\n", 1)[0] + "\n..."
    return [
        f"**{finding.severity.value}**, {finding.subject}: {message}",
        "",
        f"- effect: {finding.consequence}",
        f"- repair: {finding.repair}",
        "",
        "```json",
        evidence,
        "```",
    ]


def _rounded(value: Any) -> Any:
    """Round numbers so far that every machine writes the same page; sums differ in their last digits."""
    if isinstance(value, float):
        return float(f"{value:.3g}")
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list) else value


def _index() -> str:
    rows = [f"| [{check.check_id}]({check.check_id}.md) | {check.title} |" for check in CHECKS]
    return "\n".join(
        [
            "# The checks of the audit",
            "",
            "Written by `make docs` from the checks themselves; do not edit.",
            f"A report as JSON follows [{SCHEMA}]({SCHEMA}).",
            "",
            "| check | what must hold |",
            "| --- | --- |",
            *rows,
            "",
            "Which check sees which way of failing: [ways-of-failing.md](ways-of-failing.md).",
            "",
            "A finding is `fatal` (the subject must not be served), a `warning` (answers suffer in some requests), a",
            "`note` (worth knowing), or `skipped` (could not be judged, which is not the same as passed).",
            "",
        ]
    )


if __name__ == "__main__":
    write()
