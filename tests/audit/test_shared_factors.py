"""One pair of factors under several names: lost training of a module, or how trainers save what experts share."""

from dataclasses import replace

import pytest

from service.audit.checks.adapter_values import layers_are_distinct
from service.domain.facts import AdapterFacts
from service.domain.judgement import Severity
from tests.builders import copy_demo

LAYER = "model.layers.0."


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> AdapterFacts:
    return copy_demo(tmp_path_factory.mktemp("sound")).facts().adapters["json"]


@pytest.mark.parametrize(
    ("one", "other", "is_refused"),
    [
        ("mlp.experts.1.up_proj", "mlp.experts.0.up_proj", False),
        ("mlp.experts.1.up_proj", "mlp.experts.0.gate_proj", True),
        ("self_attn.v_proj", "self_attn.k_proj", True),
    ],
)
def test_modules_of_a_layer_may_share_factors_only_as_experts_do(
    one: str, other: str, is_refused: bool, adapter: AdapterFacts
) -> None:
    repeated = replace(adapter, repeated_modules={LAYER + one: LAYER + other})
    assert [found.severity for found in layers_are_distinct(repeated)] == [Severity.FATAL] * is_refused
