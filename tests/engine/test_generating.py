"""One request at a time: sampling, ends, cancelling, failing."""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
import torch
from jobs import answer, ask, greedy
from PIL import Image

from service.demo import demo_root
from service.demo.drawing import Scene, draw
from service.domain.generation import Event, Failure, FinishReason, Generation, Message, TextPiece
from service.engine.engine import Engine, Limits
from service.engine.loading import LoadPlan, load
from service.errors import DeadlineExceeded, EngineFailed, InvalidField, PromptTooLong

PICTURE = draw(Scene("red", "circle", 1, "top left", 1))
QUESTION = "What is in the picture?"


@pytest.mark.parametrize(
    "pictures", [(), (PICTURE,), (PICTURE, draw(Scene("blue", "star", 2, "center", 5), (300, 200)))]
)
def test_the_greedy_answer_is_that_of_the_model_s_own_generate(engine: Engine, pictures: tuple[Any, ...]) -> None:
    view = engine.loaded.base
    encoded = view.encoder.encode(ask(QUESTION, *pictures).messages, pictures)
    with torch.inference_mode():
        ids = view.model.generate(**encoded.tensors, max_new_tokens=40, do_sample=False)
    expected = ids[0, len(encoded.prompt_ids) :].tolist()
    events: Queue[Event] = Queue()
    prepared = engine.prepare(ask(QUESTION, *pictures), events.put, time.monotonic())
    engine.submit(prepared)
    while not isinstance(events.get(timeout=30), Generation):
        pass
    assert prepared.sequence.generated_ids == expected


def test_a_seed_makes_sampling_repeat_whatever_ran_in_between(engine: Engine) -> None:
    def sample(seed: int | None) -> str:
        return answer(engine, ask("Hello", sampling=greedy(20, temperature=5.0, seed=seed)))[1].text

    first = sample(7)
    others = {sample(seed) for seed in range(6)}
    assert sample(7) == first
    assert len(others) > 1


def test_top_k_of_one_is_greedy(engine: Engine) -> None:
    job = ask(QUESTION, PICTURE, sampling=greedy(40, temperature=2.0, top_k=1))
    assert answer(engine, job)[1].text == answer(engine, ask(QUESTION, PICTURE))[1].text


def test_log_probabilities_belong_to_the_tokens_and_are_what_the_model_says(engine: Engine) -> None:
    _, generation = answer(engine, ask(QUESTION, PICTURE, sampling=greedy(5, is_logprobs=True)))
    assert len(generation.logprobs) == generation.usage.generated_tokens == 5
    assert "".join(one.token for one in generation.logprobs) == generation.text
    encoded = engine.loaded.base.encoder.encode(ask(QUESTION, PICTURE).messages, [PICTURE])
    with torch.inference_mode():
        expected = engine.loaded.base.model(**encoded.tensors).logits[0, -1].log_softmax(-1)
    first = generation.logprobs[0]
    assert first.logprob == pytest.approx(float(expected[first.token_id]), abs=1e-4)


def test_an_answer_ends_at_its_length_and_says_so(engine: Engine) -> None:
    _, generation = answer(engine, ask(QUESTION, PICTURE, sampling=greedy(2)))
    assert generation.finish_reason is FinishReason.LENGTH
    assert generation.usage.generated_tokens == 2


def test_a_prompt_and_answer_beyond_the_context_are_refused_with_the_numbers(engine: Engine) -> None:
    with pytest.raises(PromptTooLong, match=r"2000.*2048.*ask for at most \d{3,} tokens$"):
        engine.prepare(ask("red " * 100, sampling=greedy(2000)), print, 0)
    with pytest.raises(PromptTooLong, match=r"2048; shorten the prompt or send fewer pictures$"):
        engine.prepare(ask("red circle " * 3000, sampling=greedy(1)), print, 0)


def test_without_a_wish_the_answer_may_fill_what_is_left(engine: Engine) -> None:
    sampling = greedy(None)  # type: ignore[arg-type]
    assert engine.prepare(ask("Hello", sampling=sampling), print, 0).sequence.max_new_tokens == 512
    long = engine.prepare(ask("red circle " * 900, sampling=sampling), print, 0).sequence
    assert 0 < long.max_new_tokens < 512
    assert long.max_new_tokens + len(long.prompt_ids) == 2048


def test_a_cancelled_job_ends_within_a_step_and_the_next_is_served(engine: Engine) -> None:
    events: Queue[Event] = Queue()
    endless = greedy(1500, temperature=5.0, seed=1)
    prepared = engine.prepare(ask("Hello", sampling=endless), events.put, time.monotonic())
    engine.submit(prepared)
    events.get(timeout=30)
    tokens_before = len(prepared.sequence.generated_ids)
    engine.cancel(prepared)
    while not isinstance(event := events.get(timeout=30), Generation):
        pass
    assert event.finish_reason in (FinishReason.CANCELLED, FinishReason.STOP)
    assert event.usage.generated_tokens <= tokens_before + 20
    assert answer(engine, ask(QUESTION, PICTURE))[1].text


def test_a_job_cancelled_while_it_waits_ends_at_once(engine: Engine) -> None:
    running: Queue[Event] = Queue()
    waiting: Queue[Event] = Queue()
    first = engine.prepare(ask("Hello", sampling=greedy(300, temperature=5.0)), running.put, time.monotonic())
    second = engine.prepare(ask("Hello"), waiting.put, time.monotonic())
    engine.submit(first)
    engine.submit(second)
    engine.cancel(second)
    event = waiting.get(timeout=1)
    assert isinstance(event, Generation)
    assert event.finish_reason is FinishReason.CANCELLED
    engine.cancel(first)


def expiring(engine: Engine) -> Failure:
    """Run a job whose deadline passes after its first piece of text, and return how it fails."""
    events: Queue[Event] = Queue()

    def sink(event: Event) -> None:
        prepared.sequence.job = replace(prepared.sequence.job, deadline=0.0)
        events.put(event)

    prepared = engine.prepare(ask(QUESTION, PICTURE), sink, time.monotonic())
    engine.submit(prepared)
    told = [events.get(timeout=30)]
    while isinstance(told[-1], TextPiece):
        told.append(events.get(timeout=30))
    assert 2 <= len(told) <= 3  # one step may bring the prompt's token and the one behind it
    assert isinstance(told[-1], Failure)
    return told[-1]


def test_a_job_past_its_deadline_fails_and_the_next_is_served(engine: Engine) -> None:
    assert isinstance(expiring(engine).error, DeadlineExceeded)
    assert answer(engine, ask(QUESTION, PICTURE))[1].text


def test_a_job_whose_deadline_passes_in_the_queue_is_not_begun(engine: Engine) -> None:
    late = replace(ask(QUESTION, PICTURE), deadline=time.monotonic() - 1)
    with pytest.raises(DeadlineExceeded, match="queue"):
        answer(engine, late)


def test_logits_that_are_not_finite_end_that_answer_only(engine: Engine) -> None:
    weight = engine.loaded.base.model.lm_head.weight
    kept = weight.data[5].clone()
    weight.data[5] = float("nan")
    try:
        with pytest.raises(EngineFailed, match="NaN"):
            answer(engine, ask(QUESTION, PICTURE))
    finally:
        weight.data[5] = kept
    assert answer(engine, ask(QUESTION, PICTURE))[1].text


def test_an_exception_in_a_step_ends_that_answer_only(engine: Engine) -> None:
    events: Queue[Event] = Queue()
    prepared = engine.prepare(ask("Hello"), events.put, time.monotonic())
    prepared.sequence.push = None  # type: ignore[method-assign,assignment]
    engine.submit(prepared)
    event = events.get(timeout=30)
    assert isinstance(event, Failure)
    assert isinstance(event.error, EngineFailed)
    assert "TypeError" in event.error.detail
    assert engine.is_alive
    assert answer(engine, ask(QUESTION, PICTURE))[1].text


def test_tokens_that_nobody_trained_are_counted_where_they_occur(engine: Engine) -> None:
    id_of_red = engine.loaded.base.encoder.tokenizer.encode(" picture", add_special_tokens=False)[0]
    engine.watch_tokens({None: {id_of_red: " picture"}})
    _, generation = answer(engine, ask(QUESTION, PICTURE))
    engine.watch_tokens({})
    assert generation.token_health.prompt == {id_of_red: 1}


def test_an_adapter_s_new_tokens_are_shown_and_may_be_written_by_clients(engine: Engine) -> None:
    encoder = engine.loaded.adapters["tokens"].encoder
    added = encoder.tokenizer.convert_tokens_to_ids("<fig>")
    assert added != encoder.tokenizer.unk_token_id
    assert added not in encoder.control_ids
    message = ask("Explain <fig> please", adapter="tokens").messages
    assert added in encoder.encode(message, []).prompt_ids


def test_timings_add_up(engine: Engine) -> None:
    started = time.monotonic()
    _, generation = answer(engine, ask(QUESTION, Image.new("RGB", (200, 200), "white")))
    took = time.monotonic() - started
    timings = generation.timings
    parts = timings.queue_seconds + timings.preprocess_seconds + timings.prefill_seconds + timings.decode_seconds
    assert 0 < parts <= took
    assert len(timings.inter_token_seconds) == generation.usage.generated_tokens - 1


def test_nothing_but_stop_ids_comes_from_the_checkpoint_s_generation_config(
    tmp_path: Path, plan_of: Callable[..., LoadPlan], engine: Engine
) -> None:
    folder = tmp_path / "polluted"
    shutil.copytree(demo_root() / "base", folder)
    path = folder / "generation_config.json"
    pollution = {"min_new_tokens": 30, "num_beams": 3, "num_return_sequences": 2, "max_time": 0.01, "max_length": 5}
    path.write_text(json.dumps({**json.loads(path.read_text()), **pollution, "suppress_tokens": [1, 2, 3]}))
    polluted = Engine(load(plan_of(folder)), Limits(8))
    expected = answer(engine, ask(QUESTION, PICTURE))[1]
    got = answer(polluted, ask(QUESTION, PICTURE))[1]
    assert (got.text, got.finish_reason) == (expected.text, expected.finish_reason)
    polluted.stop()


def test_a_template_that_refuses_a_conversation_is_the_client_s_mistake(
    tmp_path: Path, plan_of: Callable[..., LoadPlan]
) -> None:
    folder = tmp_path / "strict"
    shutil.copytree(demo_root() / "base", folder)
    path = folder / "chat_template.jinja"
    path.write_text("{{ raise_exception('no system') if messages[0].role == 'system' }}" + path.read_text())
    engine = Engine(load(plan_of(folder)), Limits(8))
    job = ask(QUESTION, PICTURE)
    strict = replace(job, messages=(Message("system", ("Be brief.",)), *job.messages))
    with pytest.raises(InvalidField, match="no system"):
        engine.prepare(strict, print, 0)
    assert answer(engine, job)[1].text
    engine.stop()


def test_the_limit_on_new_tokens_bounds_requests_that_name_none(plan_of: Callable[..., LoadPlan]) -> None:
    engine = Engine(load(plan_of(demo_root() / "base")), Limits(8, max_new_tokens=16))
    assert engine.prepare(ask("Hello", sampling=greedy(None)), print, 0).sequence.max_new_tokens == 16  # type: ignore[arg-type]
    engine.stop()


def test_a_failure_says_what_there_was_of_the_answer(engine: Engine) -> None:
    partial = expiring(engine).partial
    assert partial is not None
    assert partial.usage.prompt_tokens > partial.usage.image_tokens > 0
    assert 0 < partial.usage.generated_tokens < answer(engine, ask(QUESTION, PICTURE))[1].usage.generated_tokens
    assert partial.timings.queue_seconds >= 0
