"""Reads, judges and renders folders that are damaged or made to harm."""

import json

from service.audit.judging import audit
from service.audit.reports.document import report_json
from service.audit.reports.text import report_text
from service.domain.judgement import Report
from tests.builders import Folders


def judged(folders: Folders) -> Report:
    """Read, judge and render: none of the three may raise."""
    report = audit(folders.facts())
    json.dumps(report_json(report), allow_nan=False).encode()
    report_text(report).encode()
    return report
