"""Factors whose module or scale is told by more than one line of the config are judged by what PEFT makes of them."""

from dataclasses import replace
from pathlib import Path

import pytest

from service.audit.check import AdapterView
from service.audit.checks.adapter_config import adapter_config
from service.audit.checks.adapter_lineage import adapter_lineage
from service.audit.checks.adapter_values import factors_are_there
from service.audit.checks.adapters import adapter_applied
from service.domain.facts import CheckpointFacts, TensorFacts
from service.domain.judgement import Severity
from tests.builders import copy_demo, edited_json, edited_tensors

EXPERTS = "model.language_model.layers.0.mlp.experts"
PARAMETERS = {f"{EXPERTS}.{name}": (4, 16, 16) for name in ("gate_proj", "up_proj", "down_proj")}


@pytest.fixture
def facts(tmp_path: Path) -> CheckpointFacts:
    return copy_demo(tmp_path).facts()


def test_three_stacks_of_experts_in_one_module_have_factors_of_their_own(facts: CheckpointFacts) -> None:
    adapter, blueprint = facts.adapters["json"], facts.base.blueprint
    assert blueprint is not None
    config = adapter.documents["adapter_config.json"] | {"target_parameters": list(PARAMETERS), "lora_dropout": 0.0}
    rank = config["r"] * 4
    lora = dict(adapter.lora)
    for stem in (EXPERTS, f"{EXPERTS}.base_layer", f"{EXPERTS}.base_layer.base_layer"):
        lora[f"{stem}.lora_A.weight"] = TensorFacts((rank, 16), "F32", "")
        lora[f"{stem}.lora_B.weight"] = TensorFacts((16, rank), "F32", "")
    base = replace(facts.base, blueprint=replace(blueprint, parameters={**(blueprint.parameters or {}), **PARAMETERS}))
    adapter = replace(adapter, lora=lora, documents={**adapter.documents, "adapter_config.json": config})
    view = AdapterView(base, adapter, None)
    assert [
        one.message for one in (*adapter_config(view), *adapter_applied(view)) if one.severity is not Severity.NOTE
    ] == []


def test_the_size_of_an_update_is_bounded_by_its_own_module_s_alpha(tmp_path: Path) -> None:
    folders = copy_demo(tmp_path)
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["alpha_pattern"] = {"q_proj": 1e6}
    facts = folders.facts()
    found = list(adapter_lineage(AdapterView(facts.base, facts.adapters["json"], None)))
    assert [one.severity for one in found] == [Severity.FATAL]
    assert "q_proj has factors whose product reaches" in found[0].message


def test_the_root_of_the_rank_is_that_of_the_module_s_own(facts: CheckpointFacts) -> None:
    config = {**facts.adapters["json"].documents["adapter_config.json"], "use_rslora": True}
    module = "model.language_model.layers.0.mlp.up_proj"

    def said(usual: float = 0.7, **settings: object) -> list[tuple[Severity, str]]:
        adapter = replace(
            facts.adapters["json"],
            farthest_update=(module, 3.0),
            usual_update=usual,
            documents={"adapter_config.json": config | settings},
        )
        found = adapter_lineage(AdapterView(facts.base, adapter, None))
        return [(one.severity, one.message) for one in found if "the root of the rank" in one.message]

    ((severity, message),) = said(r=16, lora_alpha=8)
    assert "the root of the rank 16, without which it would be 0.75" in message
    assert severity is Severity.WARNING
    assert said(r=16, lora_alpha=8, rank_pattern={"up_proj": 4}) == []
    ((severity, message),) = said(r=16, lora_alpha=16)
    assert "lora_alpha is the rank, as combining adapters leaves it" in message
    assert severity is Severity.FATAL
    ((severity, _),) = said(0.3, r=16, lora_alpha=16)  # one module alone was moved far
    assert severity is Severity.WARNING


@pytest.mark.parametrize(
    ("parts", "layers", "severity"),
    [(("lora_A", "lora_B"), (0, 1), "warning"), (("lora_A", "lora_B"), (2, 3), "fatal"), (("lora_A",), (1,), "fatal")],
)
def test_zeros_in_factors_that_begin_at_random_are_a_hole_at_the_file_s_end_or_beside_trained_ones(
    parts: tuple[str, ...], layers: tuple[int, ...], severity: str, tmp_path: Path
) -> None:
    folders = copy_demo(tmp_path)
    with edited_tensors(folders.adapter_weights) as tensors:
        for name, one in tensors.items():
            if any(f".{part}." in name for part in parts) and any(f".layers.{layer}." in name for layer in layers):
                one.zero_()
    found = list(factors_are_there(folders.facts().adapters["json"]))
    assert [one.severity.value for one in found] == [severity]
