"""Where a command does without torch, another process builds the model's class, and its end is not the command's."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from service.checkpoint.blueprint import Blueprint, read_blueprint
from service.domain.facts import TensorFacts

SCRIPT = """
import sys

sys.modules["torch"] = None
from service.checkpoint.blueprint import Blueprint
from service.domain.facts import TensorFacts

config = {config!r}
with Blueprint(config, {{"model.embed_tokens.weight": TensorFacts((50, 16), "BF16", "model.safetensors")}}) as one:
    print(one.wait().missing)
"""
CONFIG = {
    "model_type": "llama",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": 50,
}
TENSORS = {"model.embed_tokens.weight": TensorFacts((50, 16), "BF16", "model.safetensors")}


class Killer:
    """Ends the process that reads it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (3,)


def started(config: dict[str, Any]) -> Blueprint:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torch", None)
        return Blueprint(config, TENSORS)


def test_another_process_finds_what_this_one_would() -> None:
    found = started(CONFIG).wait()
    assert found == read_blueprint(CONFIG, TENSORS)
    assert found is not None
    assert "lm_head.weight" in found.missing


def test_a_process_that_ends_is_a_problem_of_the_folder() -> None:
    found = started({**CONFIG, "rope_theta": Killer()}).wait()
    assert found is not None
    assert found.problem == "building the model ended the process with status 3"


def test_a_config_that_is_nested_too_deeply_to_be_sent_is_no_defect() -> None:
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"in": deep}
    assert started({**CONFIG, "deep": deep}).wait() is None


def test_a_process_that_nobody_waits_for_is_ended() -> None:
    with started(CONFIG) as beside:
        assert beside._process is not None
        process = beside._process._process
    assert process is not None
    assert process.returncode is not None


@pytest.mark.parametrize("is_file", [True, False])
def test_the_program_that_asks_is_not_run_once_more(tmp_path: Path, is_file: bool) -> None:
    """It may be a script that does its work when it is imported, or may have come through a pipe."""
    script = SCRIPT.format(config=CONFIG)
    path = tmp_path / "script.py"
    path.write_text(script)
    command = [sys.executable, str(path) if is_file else "-"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.count("lm_head.weight") == 1
    assert done.stderr == ""
