"""Makes every folder of the waves, audits it as the service does before it takes traffic, and counts.

    .venv/bin/python -m benchmarks.unseen

With `--only CASE --findings` it says what was found in one of them.
"""

import argparse
import importlib
import json
import pkgutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import benchmarks.unseen
from benchmarks.unseen.case import Bundle, Case
from service.audit.judging import audit
from service.checkpoint.locating import locate
from service.checkpoint.reading import read_checkpoint
from service.domain.judgement import Finding, Report, Severity, Verdict
from service.engine.load_report import adopt_transformers, caught_warnings
from service.errors import CheckpointError
from service.probe import probe

RIGHT, OTHER, WARNED, MISSED = "refused, right subject", "refused, another subject", "warned", "missed"
PASSED, FLAGGED, REFUSED = "passed", "warned", "refused"
OUTCOMES = {True: (RIGHT, OTHER, WARNED, MISSED), False: (PASSED, FLAGGED, REFUSED)}


def main() -> None:
    """Print one line per case and the counts of each wave."""
    known = _parser().parse_args()
    adopt_transformers()
    for wave in known.waves:
        cases: tuple[Case, ...] = importlib.import_module(f"benchmarks.unseen.{wave}").CASES
        counts: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
        for case in cases:
            if known.only and case.name not in known.only:
                continue
            outcome, findings = _judged(case)
            counts[case.is_broken][outcome] += 1
            print(f"{wave}: {case.name}: {'broken' if case.is_broken else 'harmless'}: {outcome}", flush=True)
            for one in findings if known.findings else ():
                print(f"    {one.severity.value} {one.check} [{one.subject}]: {one.message}")
        for is_broken, count in counts.items():
            _summarise(wave, is_broken, count)


def _parser() -> argparse.ArgumentParser:
    waves = [one.name for one in pkgutil.iter_modules(benchmarks.unseen.__path__) if one.name.startswith("wave_")]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--waves", nargs="+", choices=waves, default=waves)
    parser.add_argument("--only", nargs="+", metavar="CASE", help="these cases alone")
    parser.add_argument("--findings", action="store_true", help="print what was found, too")
    return parser


def _summarise(wave: str, is_broken: bool, count: Counter[str]) -> None:
    total = count.total()
    shares = ", ".join(f"{count[one]} {one} ({count[one] / total:.0%})" for one in OUTCOMES[is_broken] if total)
    print(f"{wave}: of {total} {'broken' if is_broken else 'harmless'}: {shares}")


def _judged(case: Case) -> tuple[str, list[Finding]]:
    with tempfile.TemporaryDirectory() as folder, caught_warnings():
        bundle = case.make(Path(folder))
        try:
            findings = [one for one in _report(bundle).findings() if one.severity in (Severity.FATAL, Severity.WARNING)]
        except CheckpointError as error:
            findings = [Finding("cannot be read", Severity.FATAL, "base", error.detail)]
    if not case.is_broken:
        return _seen(findings, PASSED, FLAGGED, REFUSED), findings
    refused = RIGHT if any(_names(one, case.subjects) for one in _fatal(findings)) else OTHER
    return _seen(findings, MISSED, WARNED, refused), findings


def _report(bundle: Bundle) -> Report:
    """Judge the files and, if nothing refuses them, the loaded model."""
    places = {name: locate(str(one)) for name, one in bundle.adapters.items()}
    merged_from = None
    if bundle.merged_from:
        base, adapter = bundle.merged_from
        merged_from = locate(str(base)), locate(str(adapter))
    facts = read_checkpoint(
        locate(str(bundle.model)),
        places,
        origin=locate(str(bundle.base)) if bundle.base else None,
        merged_from=merged_from,
    )
    report = audit(facts)
    if report.overall is Verdict.INCONSISTENT:
        return report
    loaded = probe(facts, report, bundle.model, bundle.adapters)
    return audit(facts, loaded)


def _seen(findings: list[Finding], nothing: str, warning: str, fatal: str) -> str:
    return fatal if any(_fatal(findings)) else warning if findings else nothing


def _fatal(findings: list[Finding]) -> Iterator[Finding]:
    return (one for one in findings if one.severity is Severity.FATAL)


def _names(finding: Finding, subjects: tuple[str, ...]) -> bool:
    said = f"{finding.message} {json.dumps(dict(finding.evidence), ensure_ascii=False, default=str)}".casefold()
    return any(one.casefold() in said for one in subjects)


if __name__ == "__main__":
    main()
