"""The report as JUnit XML: one suite a subject, one case a check.

Knows no check.
"""

from junitparser import Failure, JUnitXml, Skipped, TestCase, TestSuite

from service.audit.judging import REFUSING
from service.audit.reports.waivers import waived_words
from service.domain.judgement import BASE, Finding, Report, Severity


def report_junit(report: Report) -> str:
    """Return the XML; a check fails where it refuses the subject under the report's policy."""
    document = JUnitXml("minicpm-service audit")
    for subject, one in report.subjects.items():
        suite = TestSuite(subject)
        for check in one.checks:
            found = [finding for finding in one.findings if finding.check == check]
            suite.add_testcase(_case(subject, check, found, report))
        for waiver in report.unmatched if subject == BASE else ():
            suite.add_property("waiver without finding", _clean(f"{waiver.check}:{waiver.subject}: {waiver.reason}"))
        document.add_testsuite(suite)
    written = document.tostring()  # type: ignore[no-untyped-call]
    return written.decode("utf-8") if isinstance(written, bytes) else str(written)


def _case(subject: str, check: str, findings: list[Finding], report: Report) -> TestCase:
    case = TestCase(check, subject)
    refusing = [one for one in findings if one.severity in REFUSING[report.policy] and one.waiver is None]
    if refusing:
        case.result = [Failure(_clean(one.message + waived_words(one)), one.severity.value) for one in refusing]
        for result, one in zip(case.result, refusing, strict=True):
            result.text = _clean(f"{one.consequence}\n{one.repair}")
    elif findings and all(one.severity is Severity.SKIPPED for one in findings):
        case.result = [Skipped(_clean(findings[0].message))]
    quiet = [one for one in findings if one not in refusing and one.severity is not Severity.SKIPPED]
    if quiet:
        case.system_out = "\n".join(_clean(f"{one.severity.value}: {one.message}{waived_words(one)}") for one in quiet)
    return case


def _clean(text: str) -> str:
    """Spell out what XML cannot hold: control characters and halves of characters."""
    return "".join(one if one.isprintable() or one == "\n" else repr(one)[1:-1] for one in text)
