"""The same path on a GPU; skipped where there is none."""

from collections.abc import Callable

import pytest
import torch
from jobs import answer, ask, greedy

from service.demo import demo_root
from service.demo.drawing import Scene, draw
from service.engine.assembly import assemble
from service.engine.engine import Engine, Limits
from service.engine.loading import LoadPlan, load
from service.engine.preparing import Preparer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")

PICTURE = draw(Scene("red", "circle", 1, "top left", 1))
QUESTION = "What is in the picture?"
ADAPTERS = {name: demo_root() / "adapters" / name for name in ("json", "tokens", "official")}


@pytest.mark.parametrize("dtype", ["auto", "float32", "float16"])
def test_base_and_adapters_answer_on_a_gpu_as_on_a_cpu(
    dtype: str, engine: Engine, plan_of: Callable[..., LoadPlan]
) -> None:
    on_gpu = Engine(load(plan_of(demo_root() / "base", adapters=ADAPTERS, device="cuda", dtype=dtype)), Limits(8))
    facts = on_gpu.measure()
    assert facts.base.is_output_finite
    for adapter in (None, *ADAPTERS):
        if adapter:
            assert facts.adapters[adapter].error is None
            assert facts.adapters[adapter].effect > 1e-3
            assert not facts.adapters[adapter].has_changed_base
        job = ask(QUESTION, PICTURE, adapter=adapter, sampling=greedy(40))
        assert answer(on_gpu, job)[1].text == answer(engine, job)[1].text
    assert on_gpu.device_memory()["allocated"] > 0
    on_gpu.stop()


def test_steps_are_replayed_on_a_gpu(plan_of: Callable[..., LoadPlan]) -> None:
    loaded = load(plan_of(demo_root() / "base", adapters={"json": ADAPTERS["json"]}, device="cuda", dtype="float32"))
    parts = assemble(loaded, 8, 64e6, lambda _: None)
    recordings = parts.batch.decoder.recordings
    assert recordings is not None
    preparer = Preparer(loaded, parts.slots.max_tokens, 512)
    jobs = [ask(QUESTION, PICTURE, adapter=one, sampling=greedy(30)) for one in (None, "json", None)]
    answers = []
    for _ in range(2):  # recorded, then computed
        prepared = [preparer.prepare(one, lambda _: None, 0) for one in jobs]
        for one in prepared:
            parts.batch.add(one)
        while not parts.batch.is_idle:
            parts.batch.step()
        answers.append([one.sequence.generated_ids for one in prepared])
        assert recordings.are_on is (len(answers) == 1)
        recordings.give_up("to compare")
    assert answers[0] == answers[1]


def test_a_seed_makes_sampling_repeat_on_a_gpu(plan_of: Callable[..., LoadPlan]) -> None:
    on_gpu = Engine(load(plan_of(demo_root() / "base", device="cuda")), Limits(8))
    texts = {answer(on_gpu, ask("Hello", sampling=greedy(20, temperature=5.0, seed=7)))[1].text for _ in range(3)}
    assert len(texts) == 1
    on_gpu.stop()
