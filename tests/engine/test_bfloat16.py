"""The whole engine in bfloat16 on a CPU, where kernels of our own compute what float32 leaves to the libraries."""

import time
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from jobs import ask

from service.demo import demo_root
from service.demo.drawing import Scene, draw
from service.domain.generation import Event, Generation, Job
from service.engine.assembly import assemble
from service.engine.lean import kernels
from service.engine.lean.delta_net import LeanDeltaNet
from service.engine.lean.linear import PanelLinear
from service.engine.loading import LoadedModel, LoadPlan, load
from service.engine.preparing import Preparer

ADAPTERS = ("json", "tokens", "official")
CIRCLE = draw(Scene("red", "circle", 1, "top left", 1))
STARS = draw(Scene("blue", "star", 2, "center", 5), (300, 200))
JOBS = [
    ask(text, picture, adapter=adapter)
    for adapter in (None, *ADAPTERS)
    for text, picture in (("What is in the picture?", CIRCLE), ("图里有什么？", STARS))
]
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


def answers(loaded: LoadedModel, jobs: list[Job]) -> list[str]:
    """Run jobs beside one another to their ends."""
    parts = assemble(loaded, 8, 64e6, lambda step: None, largest_piece=64)
    preparer = Preparer(loaded, parts.slots.max_tokens, 64)
    told: list[list[Event]] = [[] for _ in jobs]
    for job, events in zip(jobs, told, strict=True):
        job = replace(job, deadline=time.monotonic() + 100)
        parts.batch.add(preparer.prepare(job, events.append, time.monotonic()))
    while not parts.batch.is_idle:
        parts.batch.step()
    last = [events[-1] for events in told]
    assert all(isinstance(one, Generation) for one in last), last
    return [one.text for one in last if isinstance(one, Generation)]


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
