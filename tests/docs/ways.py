"""Writes docs/audit/ways-of-failing.md from the catalogue of the tests: every way, and the check that sees it.

A way that has no fixture is listed with the reason why.
"""

import importlib

from tests.audit import compared, older_folders
from tests.audit.catalogue import Row, failing, harmless

GROUPS = {
    "T": "Tokenizer files",
    "E": "Embeddings and output head",
    "L": "Adapter: config and tensors",
    "M": "Merging and exporting",
    "C": "Chat template and generation",
    "V": "Pictures, videos, processor",
    "X": "Found besides",
}


def page() -> str:
    """Return the page."""
    lines = [
        "# Ways of failing, and what sees them",
        "",
        "Written by `make docs` from `tests/audit/catalogue_failing.txt` and `catalogue_harmless.txt`; do not edit. A",
        "test holds that every way has a folder that is broken so and that the named check finds, or a reason.",
        "",
    ]
    rows = failing()
    for letter, title in GROUPS.items():
        lines += [f"## {title}", "", "| | way | seen by |", "| --- | --- | --- |"]
        lines += [f"| {row.row_id} | {row.what} | {_seen(row)} |" for row in rows if row.row_id.startswith(letter)]
        lines.append("")
    lines += ["## Differences that change no answer, and are not flagged", ""]
    lines += [f"- {row.what}" for row in harmless()]
    return "\n".join([*lines, ""])


def _seen(row: Row) -> str:
    checks = sorted({check for name in row.fixtures if (check := _check(name))})
    links = ", ".join(f"[{one}]({one}.md)" for one in checks)
    if row.reason:
        return f"{row.reason}" + (f" ({links})" if links else "")
    return links or "the tests named in the catalogue"


def _check(name: str) -> str:
    """Return the check that a broken fixture is found by; empty for tests and for what must pass."""
    group, _, rest = name.partition(":")
    if group == "compared":
        return compared.BROKEN[rest].check
    if group == "older":
        return older_folders.BROKEN[rest].check
    if group == "sentencepiece":
        return "tokenizer_faithful"
    if rest or "/" in name:
        return ""
    return str(importlib.import_module(f"tests.broken.{name}").EXPECTED.check)
