"""A folder's own code runs only when a setting names exactly that folder."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny

from service.engine.engine import Engine, Limits
from service.engine.loading import LoadPlan, load
from service.errors import CheckpointUnsupported, UnsafeCheckpoint
from service.lifecycle import StartPlan

CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM

Path({marker!r}).touch()


class HomemadeConfig(LlamaConfig):
    model_type = "homemade"


class HomemadeForCausalLM(LlamaForCausalLM):
    config_class = HomemadeConfig
"""


@pytest.fixture
def homemade(tmp_path: Path) -> tuple[Path, Path]:
    """A Llama whose config names a class of its own; returns the folder and a file that its code would write."""
    folder, marker = tiny.make("causal (llama)", tmp_path / "model"), tmp_path / "it-ran"
    (folder / "modeling_homemade.py").write_text(CODE.format(marker=str(marker)))
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "homemade"
    config["auto_map"] = {
        "AutoConfig": "modeling_homemade.HomemadeConfig",
        "AutoModelForCausalLM": "modeling_homemade.HomemadeForCausalLM",
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder, marker


def test_code_in_a_folder_is_not_run_and_the_refusal_says_how_to_allow_it(
    homemade: tuple[Path, Path], plan_of: Callable[..., LoadPlan]
) -> None:
    folder, marker = homemade
    with pytest.raises(CheckpointUnsupported, match="MINICPM_TRUSTED_REMOTE_CODE"):
        load(plan_of(folder))
    assert not marker.exists()


def test_code_runs_when_the_folder_is_trusted(
    homemade: tuple[Path, Path], plan_of: Callable[..., LoadPlan], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder, marker = homemade
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    engine = Engine(load(plan_of(folder, is_code_trusted=True)), Limits(8))
    assert marker.exists()
    assert engine.loaded.describe()["family"] == "causal"
    engine.stop()


@pytest.mark.parametrize(
    ("model", "revision", "trusted", "is_allowed"),
    [
        ("/models/a", None, "/models/a", True),
        ("/models/a", None, "/models/a/", False),
        ("/models/a", None, "/models", False),
        ("owner/name", "1" * 40, "owner/name@" + "1" * 40, True),
        ("owner/name", "1" * 40, "owner/name", False),
        ("owner/name@" + "1" * 40, None, "owner/name@" + "1" * 40, True),
        ("owner/name", "1" * 40, "true", False),
    ],
)
def test_trust_is_given_to_one_folder_or_commit_only(
    model: str, revision: str | None, trusted: str, is_allowed: bool
) -> None:
    plan = StartPlan(model=model, revision=revision, trusted_remote_code=trusted)
    if is_allowed:
        assert plan.is_code_trusted()
    else:
        with pytest.raises(UnsafeCheckpoint, match="name exactly"):
            plan.is_code_trusted()


def test_without_the_setting_nothing_is_trusted() -> None:
    assert not StartPlan(model="/models/a").is_code_trusted()
