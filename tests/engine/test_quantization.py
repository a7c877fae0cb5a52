"""The whole engine with weights of 8 bits, what is measured of them, and where they are refused."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from answering import ADAPTERS, JOBS, answers
from torch import nn

from service.audit.checks.quantization import TOLERANCE
from service.demo import demo_bases, demo_root
from service.engine.lean import kernels
from service.engine.lean.eight_bit import EightBitLinear
from service.engine.lean.linear import WideLinear
from service.engine.loading import LoadedModel, LoadPlan, load
from service.engine.probing import Probe
from service.engine.quantization import require_eight_bit, require_rounded
from service.errors import CheckpointUnreadable

WELL_WITHIN = TOLERANCE / 8
needs_kernels = pytest.mark.skipif(not kernels.are_there(), reason="no C compiler, or no AVX-512")


def rounded_layers(model: nn.Module) -> list[nn.Module]:
    return [one for one in model.modules() if isinstance(one, EightBitLinear)]


@pytest.fixture(scope="module")
def plan(plan_of: Callable[..., LoadPlan]) -> LoadPlan:
    folders = {name: demo_root() / "adapters" / name for name in ADAPTERS}
    return plan_of(demo_root() / "base", adapters=folders, dtype="bfloat16", quantization="int8")


@pytest.fixture(scope="module")
def loaded(plan: LoadPlan) -> LoadedModel:
    return load(plan)


@needs_kernels
def test_the_demo_answers_with_every_adapter_as_in_float32_alone_and_together(
    loaded: LoadedModel, plan_of: Callable[..., LoadPlan]
) -> None:
    folders = {name: demo_root() / "adapters" / name for name in ADAPTERS}
    expected = answers(load(plan_of(demo_root() / "base", adapters=folders)), JOBS)
    assert answers(loaded, JOBS) == expected
    assert [answers(loaded, [one])[0] for one in JOBS] == expected


@needs_kernels
def test_all_that_decodes_is_rounded_and_nothing_that_sees_pictures(loaded: LoadedModel) -> None:
    model = loaded.base.model
    linears = {name: one for name, one in model.named_modules() if isinstance(one, nn.Linear)}
    decoding = {name for name in linears if name.startswith(("model.language_model.", "lm_head"))}
    assert {name for name, one in linears.items() if isinstance(one, EightBitLinear)} == decoding
    assert all(type(linears[name]) is WideLinear for name in linears.keys() - decoding)
    assert model.get_input_embeddings().weight.dtype == torch.bfloat16
    assert loaded.describe()["quantization"] == "int8"


@needs_kernels
def test_the_demo_s_models_are_well_within_what_is_tolerated(
    loaded: LoadedModel, plan_of: Callable[..., LoadPlan]
) -> None:
    base = demo_bases()["demo-4.5"]
    adapters = {"official": base.parent / "adapters" / "official"}
    older = load(plan_of(base, adapters=adapters, dtype="bfloat16", quantization="int8"))
    for one in (loaded, older):
        found = [one.quantization_difference, *(each.quantization_difference for each in one.reports.values())]
        assert len(found) == 1 + len(one.adapters)
        assert all(difference is not None and 0 < difference < WELL_WITHIN for difference in found)


@needs_kernels
def test_with_a_merged_adapter_the_merged_model_is_rounded_and_compared(plan_of: Callable[..., LoadPlan]) -> None:
    adapter = demo_root() / "adapters" / "json"
    at_load = load(plan_of(demo_root() / "base", merged_adapter=adapter, dtype="bfloat16", quantization="int8"))
    folder = load(plan_of(demo_root() / "merged", dtype="bfloat16", quantization="int8"))
    assert at_load.quantization_difference == folder.quantization_difference
    probe = Probe(at_load.family, at_load.base.encoder, at_load.device)
    assert torch.equal(probe.logits(at_load.base.model), probe.logits(folder.base.model))


@needs_kernels
def test_without_the_setting_nothing_is_rounded_or_compared(plan_of: Callable[..., LoadPlan]) -> None:
    plain = load(plan_of(demo_root() / "base", dtype="bfloat16"))
    assert plain.quantization_difference is None
    assert rounded_layers(plain.base.model) == []
    assert plain.describe()["quantization"] == "none"


@pytest.mark.parametrize("dtype", ["auto", "float32", "float16"])
def test_weights_that_are_not_bfloat16_are_refused_before_they_are_read(
    dtype: str, plan_of: Callable[..., LoadPlan]
) -> None:
    with pytest.raises(
        CheckpointUnreadable, match=r"MINICPM_QUANTIZATION=int8 .* set MINICPM_DTYPE=bfloat16, or leave"
    ):
        load(plan_of(demo_root() / "base", dtype=dtype, quantization="int8"))


def test_a_gpu_is_refused() -> None:
    with pytest.raises(CheckpointUnreadable, match="the device is cuda:0: set MINICPM_DEVICE=cpu, or leave"):
        require_eight_bit(torch.device("cuda:0"), torch.bfloat16)


@pytest.mark.parametrize(
    ("capability", "reason"), [("AVX2", "the processor lacks AVX-512"), ("AVX512", "no C compiler")]
)
def test_a_machine_without_kernels_is_refused_with_the_reason(
    capability: str, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(kernels, "_library", kernels._library.__wrapped__)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CheckpointUnreadable, match=f"MINICPM_QUANTIZATION=int8 needs kernels, and {reason}.*leave"):
        require_eight_bit(torch.device("cpu"), torch.bfloat16)


def test_a_model_without_such_layers_is_refused() -> None:
    with pytest.raises(CheckpointUnreadable, match=r"MINICPM_QUANTIZATION=int8 .* has none"):
        require_rounded(nn.Sequential(nn.Linear(4, 4)))
