"""Every family's sequences run together as they run alone: positions, masks and caches are right for each of them."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from jobs import ask, greedy
from PIL import Image
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, GenerationConfig

from service.domain.generation import Event, Generation, Job
from service.engine.assembly import assemble
from service.engine.loading import LoadedModel, LoadPlan, load
from service.engine.preparing import Preparer
from service.engine.prompt import positions_of, takes_positions
from service.engine.slots import BatchedSlots, SeparateSlots, new_cache

RED, WIDE = Image.new("RGB", (120, 90), "red"), Image.new("RGB", (300, 80), "blue")
TEXTS = ("Hello", "图里有什么？ What is here?", "a longer text about nothing in particular " * 9)


def sliding(folder: Path) -> Path:
    """A model whose layers cannot be one batch: windows slide."""
    torch.manual_seed(0)
    tokenizer = tiny.demo_tokenizer()
    config = Gemma3TextConfig(
        **{**tiny.TEXT, "num_hidden_layers": 3},
        head_dim=32,
        vocab_size=len(tokenizer),
        sliding_window=16,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Gemma3ForCausalLM(config)
    model.generation_config = GenerationConfig(eos_token_id=[tokenizer.eos_token_id], pad_token_id=0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def jobs(name: str) -> list[Job]:
    if name == "got-ocr-2":
        return [ask("OCR", RED, sampling=greedy(9)), ask("OCR with format", WIDE, sampling=greedy(5))]
    found = [ask(text, sampling=greedy(6 + 5 * index)) for index, text in enumerate(TEXTS)]
    if not name.startswith("causal"):
        found += [ask("What?", RED, sampling=greedy(12)), ask("And?", WIDE, sampling=greedy(7))]
        found += [ask("Both?", RED, WIDE, sampling=greedy(10)), ask("Again?", RED, sampling=greedy(8))]
    return found


def alone(loaded: LoadedModel, job: Job) -> list[int]:
    encoded = loaded.base.encoder.encode(job.messages, job.pictures)
    limit = job.sampling.max_new_tokens
    loaded.base.model.base_model.rope_deltas = None  # what transformers remembers of one prompt it takes for the next
    with torch.inference_mode():
        ids = loaded.base.model.generate(**encoded.tensors, max_new_tokens=limit, do_sample=False)
    new: list[int] = ids[0, len(encoded.prompt_ids) :].tolist()
    return new


@pytest.mark.parametrize("name", [*tiny.FAMILIES, "causal (sliding)"])
def test_a_family_s_sequences_together_have_the_tokens_of_each_alone(
    name: str, tmp_path: Path, plan_of: Callable[..., LoadPlan]
) -> None:
    folder = sliding(tmp_path / "model") if "sliding" in name else tiny.make(name, tmp_path / "model")
    loaded = load(plan_of(folder))
    parts = assemble(loaded, 8, 16e6, lambda step: None, largest_piece=64)
    assert isinstance(parts.slots, SeparateSlots if "sliding" in name else BatchedSlots)
    preparer = Preparer(loaded, parts.slots.max_tokens, 64)
    for _ in range(2):  # the second time finds pictures and beginnings again
        events: list[list[Event]] = []
        prepared = []
        for index, job in enumerate(jobs(name)):
            events.append([])
            fresh = replace(job, deadline=time.monotonic() + 100)
            prepared.append(preparer.prepare(fresh, events[-1].append, time.monotonic()))
            parts.batch.add(prepared[-1])
            for _ in range(index):
                parts.batch.step()
        while not parts.batch.is_idle:
            parts.batch.step()
        for one, told, job in zip(prepared, events, jobs(name), strict=True):
            assert isinstance(told[-1], Generation), told[-1]
            assert one.sequence.generated_ids == alone(loaded, job)


@pytest.mark.parametrize(("name", "can_chunk"), [("minicpm-v-4.7", True), ("image-text", False)])
def test_only_a_prompt_that_may_be_computed_in_pieces_goes_on_behind_a_remembered_beginning(
    name: str, can_chunk: bool, tmp_path: Path, plan_of: Callable[..., LoadPlan]
) -> None:
    loaded = load(plan_of(tiny.make(name, tmp_path / "model")))
    parts = assemble(loaded, 8, 16e6, lambda step: None)
    preparer = Preparer(loaded, parts.slots.max_tokens, 64)
    prompt = preparer.prepare(ask("What?", RED), print, 0.0).prompt
    assert (prompt.names is not None) == can_chunk
    if prompt.names is not None:
        parts.states.keep(prompt.names, 10, lambda: new_cache(loaded.base.model))
        assert parts.batch._prefiller.begin(prompt).done == 10


@pytest.mark.parametrize(("name", "rows"), [("minicpm-v-4.7", 4), ("image-text", 4), ("causal (llama)", 1)])
def test_positions_are_what_generate_gives_to_the_model(
    name: str, rows: int, tmp_path: Path, plan_of: Callable[..., LoadPlan]
) -> None:
    loaded = load(plan_of(tiny.make(name, tmp_path / "model")))
    job = jobs(name)[-1]
    encoded = loaded.base.encoder.encode(job.messages, job.pictures)
    model, seen = loaded.base.model, []
    hook = model.register_forward_pre_hook(
        lambda module, arguments, keywords: seen.append(keywords["position_ids"]), with_kwargs=True
    )
    with torch.inference_mode():
        model.generate(**encoded.tensors, max_new_tokens=2, do_sample=False)
    hook.remove()
    positions = positions_of(model, encoded.tensors)
    assert takes_positions(model)
    assert positions.shape == (rows, 1, len(encoded.prompt_ids))
    assert torch.equal(positions if rows > 1 else positions[0], seen[0])
    if rows > 1:
        behind = torch.stack([torch.tensor([[len(encoded.prompt_ids)]]), *[positions[1:].amax()[None, None] + 1] * 3])
        assert torch.equal(behind, seen[1])
