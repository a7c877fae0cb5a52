"""`.env.example` names every setting with its default, and nothing else.

Does not know what a setting does.
"""

import json
import os
import re
from pathlib import Path

import pytest

from service.settings import PREFIX, Settings


@pytest.fixture
def text(root: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    return (root / ".env.example").read_text(encoding="utf-8")


def _assignments(text: str) -> list[tuple[str, str]]:
    return re.findall(rf"^# {PREFIX}([A-Z_]+)=(.*)$", text, flags=re.MULTILINE)


def test_it_names_every_setting_once_in_the_order_of_the_class(text: str) -> None:
    assert [name.lower() for name, _ in _assignments(text)] == list(Settings.model_fields)


def test_it_sets_nothing(text: str) -> None:
    assert all(line == "" or line.startswith("# ") for line in text.splitlines())


def test_its_values_are_the_defaults(text: str, tmp_path: Path) -> None:
    given = [(name, value) for name, value in _assignments(text) if value]
    file = tmp_path / ".env"
    file.write_text("".join(f"{PREFIX}{name}={value}\n" for name, value in given))
    assert Settings(_env_file=file) == Settings(_env_file=None)


def test_only_a_setting_that_is_not_set_by_default_is_empty(text: str) -> None:
    defaults = Settings(_env_file=None).masked()
    assert {name: value == "" for name, value in _assignments(text)} == {
        name.upper(): default is None for name, default in defaults.items()
    }


def test_every_value_is_written_as_it_is_shown_in_the_log(text: str) -> None:
    defaults = Settings(_env_file=None).masked()
    for name, value in _assignments(text):
        default = defaults[name.lower()]
        assert value in ("" if default is None else default, json.dumps(default))


def test_every_setting_is_explained_in_the_words_of_its_field(text: str) -> None:
    for name, field in Settings.model_fields.items():
        above = text.split(f"# {PREFIX}{name.upper()}=")[0].rstrip().split("\n\n")[-1]
        assert f"# {field.description}" in above.splitlines()


@pytest.mark.parametrize("name", ["adapters", "audit_waivers"])
def test_the_examples_are_settings(text: str, tmp_path: Path, name: str) -> None:
    example = re.search(rf"^# Example: (.+)\n# {PREFIX}{name.upper()}=", text, flags=re.MULTILINE)
    assert example
    file = tmp_path / ".env"
    file.write_text(f"{PREFIX}{name.upper()}={example[1]}\n")
    assert getattr(Settings(_env_file=file), name)
