"""The whole engine in bfloat16 on a CPU, where kernels of our own compute what float32 leaves to the libraries."""

from collections.abc import Callable

import pytest
import torch
from answering import ADAPTERS, CIRCLE, JOBS, answers
from jobs import ask

from service.demo import demo_root
from service.engine.lean import kernels
from service.engine.lean.delta_net import LeanDeltaNet
from service.engine.lean.linear import PanelLinear
from service.engine.loading import LoadedModel, LoadPlan, load

NEAR = 0.05
"""Largest difference of logits to those of transformers' own modules, as a share of the largest logit."""

pytestmark = pytest.mark.skipif(not kernels.are_there(), reason="no C compiler, or no AVX-512")


@pytest.fixture(scope="module")
def loaded(plan_of: Callable[..., LoadPlan]) -> LoadedModel:
    folders = {name: demo_root() / "adapters" / name for name in ADAPTERS}
    return load(plan_of(demo_root() / "base", adapters=folders, dtype="bfloat16"))


@pytest.fixture(scope="module")
def exact(plan_of: Callable[..., LoadPlan]) -> LoadedModel:
    folders = {name: demo_root() / "adapters" / name for name in ADAPTERS}
    return load(plan_of(demo_root() / "base", adapters=folders))


def test_answers_with_every_adapter_are_those_of_float32_alone_and_together(
    loaded: LoadedModel, exact: LoadedModel
) -> None:
    expected = answers(exact, JOBS)
    assert answers(loaded, JOBS) == expected
    assert [answers(loaded, [one])[0] for one in JOBS] == expected


def test_the_kernels_compute_prompts_and_steps(loaded: LoadedModel) -> None:
    answers(loaded, JOBS[:1])
    kinds = {type(one) for one in loaded.base.model.modules()}
    assert {PanelLinear, LeanDeltaNet} <= kinds


@pytest.mark.parametrize("adapter", [None, *ADAPTERS])
def test_logits_with_kernels_are_near_those_of_float32(
    loaded: LoadedModel, exact: LoadedModel, adapter: str | None
) -> None:
    job = ask("What is in the picture? 图里有什么？", CIRCLE, adapter=adapter)
    found = []
    for one in (loaded, exact):
        view = one.view(adapter)
        encoded = view.encoder.encode(job.messages, job.pictures)
        with torch.inference_mode():
            found.append(view.model(**encoded.tensors).logits.float())
    difference = (found[0] - found[1]).abs().max() / found[1].abs().max()
    assert difference < NEAR
