"""Every format of the report, read by a parser that is not ours, with names in it that were made to break it."""

import json
from dataclasses import replace
from datetime import date
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import pytest
from junitparser import JUnitXml

from service.audit.judging import audit
from service.audit.reports.document import report_json, schema
from service.audit.reports.github import report_github
from service.audit.reports.junit import report_junit
from service.audit.reports.page import report_html
from service.audit.reports.text import report_text
from service.cli import main
from service.domain.facts import CheckpointFacts, FileProblem
from service.domain.judgement import BASE, Policy, Report, Severity, Verdict, Waiver
from tests.broken import stop_set_incomplete
from tests.builders import copy_demo

HOSTILE = "</script>]]>&<b>\x1b[31m[bold red]\n::error::x%0A\ud800红"


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> CheckpointFacts:
    folders = copy_demo(tmp_path_factory.mktemp("reports"), "broken")
    stop_set_incomplete.make(folders)
    facts = folders.facts()
    hostile = replace(facts.base, problems=(FileProblem(HOSTILE, HOSTILE),))
    return replace(facts, base=hostile)


@pytest.fixture(scope="module")
def report(broken: CheckpointFacts) -> Report:
    return audit(broken)


class Reader(HTMLParser):
    """Collects text and tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_shows_every_finding_and_runs_nothing(report: Report, broken: CheckpointFacts) -> None:
    reader = Reader(report_html(report, broken))
    assert "script" not in reader.tags
    assert reader.tags.count("svg") >= 2
    for finding in report.findings():
        if "\x1b" not in finding.message:
            assert " ".join(finding.message.split()) in " ".join(reader.text.split())
    assert "红" in reader.text


def test_the_page_needs_no_network(report: Report, broken: CheckpointFacts) -> None:
    page = report_html(report, broken)
    assert "<link" not in page
    assert not any(f'{name}="http' in page for name in ("src", "href") if f'{name}="http' in page.split("<svg")[0])


def test_junit_has_a_suite_a_subject_and_a_case_a_check(report: Report) -> None:
    suites = {suite.name: suite for suite in JUnitXml.fromstring(report_junit(report).encode())}
    assert set(suites) == set(report.subjects)
    failed = {case.name for case in suites[BASE] if case.result}
    assert failed == {one.check for one in report.subjects[BASE].findings if one.severity is Severity.FATAL}
    assert len(list(suites[BASE])) == len(report.subjects[BASE].checks)


def test_annotations_are_one_line_each(report: Report) -> None:
    lines = report_github(report).splitlines()
    assert len(lines) == len(report.findings())
    assert all(line.startswith(("::error ", "::warning ", "::notice ")) for line in lines)
    assert not any("\x1b" in line for line in lines)


def test_json_survives_hostile_names_and_follows_the_schema(report: Report) -> None:
    text = json.dumps(report_json(report), allow_nan=False, ensure_ascii=False)
    jsonschema.validate(json.loads(text.encode("utf-8")), schema())


def test_text_obeys_no_markup_and_no_terminal_codes(report: Report) -> None:
    text = report_text(report, 200)
    assert "\x1b" not in text
    assert "[bold red]" in text


def test_findings_of_all_subjects_stand_at_the_top_worst_first(report: Report) -> None:
    document = report_json(report)
    order = ["fatal", "warning", "note", "skipped"]
    ranks = [order.index(one["severity"]) for one in document["findings"]]
    assert ranks == sorted(ranks)
    assert len(ranks) == sum(len(one["findings"]) for one in document["subjects"].values())
    assert document["fingerprint"] == report.fingerprint
    assert document["subjects"][BASE]["facts"]["model_type"] == "minicpmv4_6"


@pytest.mark.parametrize(
    ("expires", "verdict"), [(date(2026, 6, 2), "consistent"), (date(2026, 5, 31), "inconsistent")]
)
def test_a_waiver_ends_on_its_day(expires: date, verdict: str, tmp_path: Path) -> None:
    folders = copy_demo(tmp_path)
    stop_set_incomplete.make(folders)
    waiver = Waiver("stop_set", BASE, "clients send stop strings", expires)
    judged = audit(folders.facts(), waivers=[waiver], today=date(2026, 6, 1))
    assert judged.overall.value == verdict
    shown = report_json(judged)["findings"][0]["waived"]
    assert shown == {
        "reason": waiver.reason,
        "expires": expires.isoformat(),
        "is_expired": verdict == "inconsistent",
    }
    assert ("waiver expired" in report_text(judged)) is (verdict == "inconsistent")
    assert judged.unmatched == ()


def test_permissive_shows_what_it_allows(broken: CheckpointFacts) -> None:
    judged = audit(broken, policy=Policy.PERMISSIVE)
    assert judged.overall is Verdict.CONSISTENT
    assert any(one.severity is Severity.FATAL for one in judged.findings())


@pytest.mark.parametrize("form", ["text", "json", "html", "junit", "github"])
def test_the_command_writes_every_format_to_a_file(form: str, tmp_path: Path) -> None:
    folders = copy_demo(tmp_path, "broken")
    output = tmp_path / "report"
    arguments = ["audit", str(folders.base), "--adapter", str(folders.adapter), "--format", form]
    assert main([*arguments, "--output", str(output)]) == 1
    assert "trained_rows" in output.read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{adapter}"], "is an adapter, not a model"),
        (["{base}", "--output", "{base}"], "cannot be written"),
        (["{base}", "--waive", "nonsense"], "--waive takes"),
        (["{base}", "--waive", "[1]"], "these keys and no other"),
        (["{base}", "--waive", '{{"check": "a", "subject": "b", "reason": " "}}'], "the reason is empty"),
        (["{base}", "--waive", '{{"check": "a", "subject": "b"}}'], "'reason' is missing"),
        (["{base}", "--waive", '{{"check": "a", "subject": "b", "reason": "c", "expire": "x"}}'], "no other"),
        (["{base}", "--adapter", "base={adapter}"], "cannot be used"),
        (["{base}", "--adapter", "a={adapter}", "--adapter", "a={adapter}"], "is taken"),
        (["{base}", "--corpus", "{base}/no.jsonl"], "no.jsonl"),
        (["{base}", "--base", "/no/such/folder"], "neither a folder nor a hub id"),
    ],
)
def test_what_cannot_run_says_so_in_one_line(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = copy_demo(tmp_path)
    filled = [one.format(base=folders.base, adapter=folders.adapter) for one in arguments]
    assert main(["audit", *filled]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_an_adapter_given_as_the_model_is_judged_on_its_base(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = copy_demo(tmp_path, "broken")
    assert main(["audit", str(folders.adapter), "--base", str(folders.base), "--format", "json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["subjects"]["adapter:broken"]["verdict"] == "inconsistent"


def test_probing_adds_the_checks_of_the_loaded_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = copy_demo(tmp_path)
    arguments = ["audit", str(folders.base), "--adapter", f"json={folders.adapter}", "--probe", "--format", "json"]
    assert main(arguments) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["is_complete"] is True
    assert "adapter_effect" in document["subjects"]["adapter:json"]["checks"]


def test_the_openapi_document_shows_the_report_and_the_fingerprint() -> None:
    from service.app import create_app
    from service.settings import Settings

    document = create_app(Settings()).openapi()
    answer = document["paths"]["/health/tokenizer"]["get"]["responses"]["200"]
    assert {"$ref": "#/components/schemas/ReportDocument"} in answer["content"]["application/json"]["schema"]["anyOf"]
    assert "x-checkpoint-fingerprint" in answer["headers"]
    properties = document["components"]["schemas"]["ReportDocument"]["properties"]
    assert {"verdict", "findings", "fingerprint", "subjects"} <= set(properties)
    assert set(document["components"]["schemas"]) >= {"FindingDocument", "SubjectDocument", "UsedTokenDocument"}


def test_the_page_marks_the_tokens_that_an_adapter_brings_untrained(report: Report, broken: CheckpointFacts) -> None:
    page = report_html(report, broken)
    own = page.split("<h2>adapter:broken")[1]
    assert own.count("<svg") == 2
    assert "Looks untrained: 761 &lt;fig&gt;, 762" in own


def test_changed_rows_are_drawn_among_all_rows(tmp_path: Path) -> None:
    folders = copy_demo(tmp_path, "tokens")
    facts = folders.facts()
    own = report_html(audit(facts), facts).split("<h2>adapter:tokens")[1]
    assert own.count("<svg") == 2
    assert "6 of 832 rows" in own


def test_every_format_shows_waivers_with_their_reasons(tmp_path: Path) -> None:
    folders = copy_demo(tmp_path)
    stop_set_incomplete.make(folders)
    held = Waiver("stop_set", BASE, "clients send stop strings", date(2026, 6, 2))
    idle = Waiver("stop_sets", BASE, "a slip")
    facts = folders.facts()
    for today, word in ((date(2026, 6, 1), "waived: clients"), (date(2026, 6, 3), "waived until 2026-06-02: clients")):
        judged = audit(facts, waivers=[held, idle], today=today)
        assert word in report_github(judged)
        assert word in report_junit(judged)
        for shown in (report_github(judged), report_junit(judged), report_html(judged, facts)):
            assert "stop_sets" in shown
        assert "did you mean stop_set?" in report_text(judged, 200)
