"""Settings: precedence, secrets, and mistakes that are named."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from service.domain.judgement import Policy, Waiver
from service.settings import Settings, given_variables, unknown_variables


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(f"MINICPM_{name.upper()}", raising=False)


def test_the_environment_wins_over_dot_env_and_that_over_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().port == 8000
    Path(".env").write_text("MINICPM_PORT=9001\nMINICPM_HOST=0.0.0.0\nOTHER=1\n")
    assert (Settings().port, Settings().host) == (9001, "0.0.0.0")
    monkeypatch.setenv("MINICPM_PORT", "9002")
    assert Settings().port == 9002


def test_a_secret_comes_from_a_file_and_is_never_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("s3cret\n")
    monkeypatch.setenv("MINICPM_API_KEY_FILE", str(tmp_path / "key"))
    settings = Settings()
    assert settings.api_key is not None
    assert settings.api_key.get_secret_value() == "s3cret"
    assert "s3cret" not in str(settings.masked()) + repr(settings)
    monkeypatch.setenv("MINICPM_API_KEY", "direct")
    api_key = Settings().api_key
    assert api_key is not None
    assert api_key.get_secret_value() == "direct"


def test_an_empty_variable_is_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINICPM_API_KEY", "")
    monkeypatch.setenv("MINICPM_REVISION", "")
    assert Settings().api_key is None
    assert Settings().revision is None


def test_adapters_and_waivers_are_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINICPM_ADAPTERS", '{"receipts": "/models/receipts"}')
    monkeypatch.setenv("MINICPM_AUDIT_WAIVERS", '[{"check": "a", "subject": "base", "reason": "known"}]')
    monkeypatch.setenv("MINICPM_AUDIT_POLICY", "strict")
    settings = Settings()
    assert settings.adapters == {"receipts": "/models/receipts"}
    assert [one.to_waiver() for one in settings.audit_waivers] == [Waiver("a", "base", "known")]
    assert settings.audit_policy is Policy.STRICT


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc", "%2e%2e", "a\\u0000b", "x" * 65, "", "ａ", "a b", ".hidden", "-x", "base", "merged", "unknown"],
)
def test_an_adapter_is_called_something_that_is_safe_everywhere(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("MINICPM_ADAPTERS", f'{{"{name}": "/models/x"}}')
    with pytest.raises(ValidationError, match="adapters"):
        Settings()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PORT", "70000"),
        ("DEVICE", "tpu"),
        ("DEVICE", "cuda:x"),
        ("DTYPE", "int4"),
        ("MAX_WAITING", "-1"),
        ("TIMEOUT_SECONDS", "0"),
        ("AUDIT_WAIVERS", '[{"check": "a", "subject": "base", "reason": " "}]'),
        ("AUDIT_WAIVERS", '[{"check": "a", "subject": "base"}]'),
        ("ON_REJECTED", "panic"),
    ],
)
def test_a_value_out_of_range_is_refused(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(f"MINICPM_{variable}", value)
    with pytest.raises(ValidationError, match=variable.lower()):
        Settings()


def test_a_merged_adapter_excludes_mounted_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINICPM_MERGED_ADAPTER", "/models/a")
    monkeypatch.setenv("MINICPM_ADAPTERS", '{"b": "/models/b"}')
    with pytest.raises(ValidationError, match="MINICPM_MERGED_ADAPTER and MINICPM_ADAPTERS exclude"):
        Settings()


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1


def test_an_unknown_variable_is_named_with_the_nearest_known_one() -> None:
    environment = {
        "MINICPM_ADAPTER": "",
        "MINICPM_PORT": "1",
        "MINICPM_API_KEY_FILE": "",
        "MINICPM_QQQ": "",
        "PATH": "",
    }
    assert unknown_variables(environment) == {"MINICPM_ADAPTER": "MINICPM_ADAPTERS", "MINICPM_QQQ": None}


def test_a_name_in_the_file_that_sets_nothing_is_found_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("MINICPM_MODL=demo\nMINICPM_PORT=1\nOTHER=x\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    found = unknown_variables(given_variables())
    assert found["MINICPM_MODL"] == "MINICPM_MODEL"
    assert "MINICPM_PORT" not in found
