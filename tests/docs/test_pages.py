"""The audit's pages and its schema are those of the code."""

import json
from pathlib import Path

import jsonschema
import pytest

from service.audit.catalogue import CHECKS
from service.audit.judging import audit
from service.audit.reports.document import report_json, schema
from tests.builders import copy_demo
from tests.docs.pages import FOLDER, pages


def test_the_pages_are_those_of_the_checks() -> None:
    wanted = pages()
    assert {path.name for path in FOLDER.iterdir()} == set(wanted)
    stale = [name for name, text in wanted.items() if (FOLDER / name).read_text(encoding="utf-8") != text]
    assert stale == [], "run `make docs`"


def test_every_check_says_why_it_is_there() -> None:
    assert [check.check_id for check in CHECKS if not check.why] == []


@pytest.mark.parametrize("adapter", ["json", "broken"])
def test_a_report_follows_its_schema(adapter: str, tmp_path: Path) -> None:
    document = report_json(audit(copy_demo(tmp_path, adapter).facts()))
    jsonschema.validate(json.loads(json.dumps(document, allow_nan=False)), schema())
