"""Where a command does without torch, another process builds the model's class, and its end is not the command's."""

import os
import sys
from typing import Any

import pytest

from service.checkpoint.blueprint import Blueprint, read_blueprint
from service.domain.facts import TensorFacts

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
