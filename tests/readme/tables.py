"""Writes the README's tables from the code: `make readme`. A test holds that they agree."""

import re
import sys
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from service.metrics import Metrics
from service.settings import PREFIX, Settings

README = Path(__file__).parents[2] / "README.md"
SUFFIXES = {"counter": "_total", "info": "_info"}


def settings() -> str:
    rows = []
    for name, field in Settings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        shown = "" if default in (None, {}, ()) else f"`{default}`"
        rows.append(f"| `{PREFIX}{name.upper()}` | {shown} | {(field.description or '').replace('|', chr(92) + '|')} |")
    return "\n".join(["| variable | default | meaning |", "| --- | --- | --- |", *rows])


def metrics() -> str:
    rows = []
    for metric in vars(Metrics(CollectorRegistry())).values():
        if isinstance(metric, MetricWrapperBase):
            (family,) = metric.describe()
            labels = ", ".join(f"`{one}`" for one in metric._labelnames)
            rows.append(f"| `{family.name}{SUFFIXES.get(family.type, '')}` | {labels} | {family.documentation} |")
    return "\n".join(["| metric | labels | meaning |", "| --- | --- | --- |", *sorted(rows)])


TABLES = {"settings": settings, "metrics": metrics}


def updated(text: str) -> str:
    """Return the README with every table between its two markers renewed."""
    for name, make in TABLES.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- end -->)", re.DOTALL)
        text, count = pattern.subn(lambda match, make=make: match[1] + make() + match[2], text)
        if count != 1:
            sys.exit(f"README.md has {count} places for the table {name!r}, one is needed")
    return text


if __name__ == "__main__":
    README.write_text(updated(README.read_text(encoding="utf-8")), encoding="utf-8")
