"""Tensors of other types, without values, or of values at the edge: never an exception, nor a number that is none."""

from pathlib import Path

import pytest
import torch
from judged import judged

from service.audit.catalogue import CHECKS
from service.audit.check import AdapterView
from service.domain.judgement import Severity, Verdict
from tests.builders import EMBEDDING, copy_demo, edited_tensors, token_id


@pytest.mark.parametrize("part", ["lora_A", "lora_B", "lora_magnitude_vector"])
@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.int8, None])
def test_parts_of_an_adapter_in_a_type_that_is_not_read_or_without_values_do_not_break_the_audit(
    part: str, kind: torch.dtype | None, tmp_path: Path
) -> None:
    folders = copy_demo(tmp_path)
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if one.endswith("lora_B.weight")]:
            tensors[name.replace("lora_B.weight", "lora_magnitude_vector")] = torch.ones(len(tensors[name]))
        for name in [one for one in tensors if f".{part}" in one]:
            tensors[name] = tensors[name][:0] if kind is None else tensors[name].to(kind)
    facts = folders.facts()
    view = AdapterView(facts.base, facts.adapters["json"], None)
    found = [one for check in CHECKS if check.concerns(view) for one in check.run(view)]
    assert [one.message for one in found if one.severity is Severity.SKIPPED] == []


def test_huge_finite_values_do_not_break_the_report(tmp_path: Path) -> None:
    folders = copy_demo(tmp_path)
    with edited_tensors(folders.base_weights) as tensors:
        tensors[EMBEDDING][token_id(folders.base, "<|im_start|>")] = 1e38
    (found,) = judged(folders).findings()
    assert "is 4.92e+39 times as long as the median row" in found.message


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_huge_finite_factors_and_weights_are_compared_without_a_warning(tmp_path: Path) -> None:
    folders = copy_demo(tmp_path)
    for path, times in ((folders.base_weights, 1e30), (folders.adapter_weights, 1e25)):
        with edited_tensors(path) as tensors:
            for name in tensors:
                tensors[name] = tensors[name].float() * times
    assert judged(folders).subjects["adapter:json"].verdict is Verdict.INCONSISTENT
