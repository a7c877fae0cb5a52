"""In the engine the model answers as alone: in slots, in pieces, beside other sequences and other adapters."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from feeding import NAMES, FeedingEncoder, tensors_of
from golden_vectors import CASES, GOLDEN, VERSIONS, inputs, vectors
from jobs import ask, greedy

from service.domain.generation import Event, Generation, Job
from service.engine.assembly import Parts, assemble
from service.engine.families.minicpmv.family import MiniCPMVFamily
from service.engine.families.registry import find_family
from service.engine.loading import LoadedModel, LoadPlan, load
from service.engine.prefill import Prefiller
from service.engine.preparing import Preparer
from service.engine.prompt import build_prompt
from service.engine.remembered import FeatureMemory, StateMemory
from service.engine.rowwise import row_wise
from service.engine.slots import BatchedSlots
from service.errors import CheckpointUnsupported

TOWER_TOO = ("embed_tokens", "resampler", "vpm")
LIMIT = 1e-4


@pytest.fixture(autouse=True)
def feeding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        MiniCPMVFamily, "load_encoder", lambda self, folder, tokens, options, model: FeedingEncoder(self.version)
    )


def plan(version: str, **adapters: Path) -> LoadPlan:
    return LoadPlan(GOLDEN / version / "checkpoint", adapters, None, frozenset(), device="cpu", dtype="float32")


def make_adapter(version: str, folder: Path, saved: tuple[str, ...], scale: float) -> Path:
    """An adapter as the official script makes it, with full copies of some modules, changed."""
    base = load(plan(version)).base.model
    config = peft.LoraConfig(
        r=2,
        target_modules=r"llm\..*layers\.\d+\.self_attn\.(q_proj|k_proj|v_proj|o_proj)",
        modules_to_save=list(saved),
        init_lora_weights=False,
    )
    adapted = peft.get_peft_model(base, config)
    with torch.no_grad():
        for name, one in adapted.named_parameters():
            if "modules_to_save" in name and "proj" in name:
                one.mul_(scale)
            elif "modules_to_save" in name and "embed_tokens" in name:
                one.copy_(one.roll(1, 0))
    adapted.save_pretrained(folder)
    return folder


def job_of(name: str, adapter: str | None = None, tokens: int = 16) -> Job:
    return replace(ask(name, adapter=adapter, sampling=greedy(tokens)), deadline=time.monotonic() + 100)


def run(loaded: LoadedModel, parts: Parts, jobs: list[Job]) -> list[list[int]]:
    """Start one after another while the earlier ones run; return the answers' ids."""
    preparer = Preparer(loaded, parts.slots.max_tokens, 64)
    prepared, told = [], []
    for index, job in enumerate(jobs):
        told.append([])  # type: ignore[var-annotated]
        prepared.append(preparer.prepare(job, told[-1].append, time.monotonic()))
        parts.batch.add(prepared[-1])
        for _ in range(index % 3):
            parts.batch.step()
    while not parts.batch.is_idle:
        parts.batch.step()
    endings: list[Event] = [one[-1] for one in told]
    assert all(isinstance(one, Generation) for one in endings), endings
    return [list(one.sequence.generated_ids) for one in prepared]


def alone(loaded: LoadedModel, job: Job) -> list[int]:
    view = loaded.view(job.adapter_id)
    encoded = view.encoder.encode(job.messages, ())
    with torch.inference_mode():
        ids = view.model.generate(**encoded.tensors, max_new_tokens=job.sampling.max_new_tokens, do_sample=False)
    new: list[int] = ids[0, len(encoded.prompt_ids) :].tolist()
    return new


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.mark.parametrize("largest_piece", [7, 64, 4096])
def test_the_engine_gives_the_official_tokens_whole_and_in_pieces(version: str, largest_piece: int) -> None:
    loaded = load(plan(version))
    assert loaded.describe()["family"] == f"minicpm-v-{version}"
    parts = assemble(loaded, 8, 16e6, lambda step: None, largest_piece=largest_piece)
    assert isinstance(parts.slots, BatchedSlots)
    wanted = json.loads((GOLDEN / version / "generate.json").read_text())["new_tokens_single"]
    assert run(loaded, parts, [job_of(name) for name in NAMES]) == wanted
    assert run(loaded, parts, [job_of(name) for name in NAMES]) == wanted  # pictures and beginnings are known now


@pytest.mark.parametrize(("case_version", "name"), CASES)
def test_chunked_prefill_ends_with_the_official_logits(case_version: str, name: str) -> None:
    loaded = load(plan(case_version))
    case = vectors(case_version, f"case_{name}")
    prompt = build_prompt(loaded.family, loaded.base, loaded.base.encoder.encode(job_of(name).messages, ()))
    prefiller = Prefiller(loaded.family, loaded.device, FeatureMemory(1 << 20), StateMemory(1 << 20))
    progress = prefiller.begin(prompt)
    while prefiller.encode([progress]):
        pass
    logits = None
    while logits is None:
        logits = prefiller.advance(progress, min(11, progress.remaining))
    assert torch.allclose(logits[0], torch.from_numpy(case["out.logits"][0, -1]), rtol=0, atol=LIMIT)


def test_rows_of_one_batch_have_their_own_adapters_modules_and_towers(version: str, tmp_path: Path) -> None:
    adapters = {
        "official": GOLDEN / version / "lora",
        "tower": make_adapter(version, tmp_path / "tower", TOWER_TOO, 1.3),
        "other": make_adapter(version, tmp_path / "other", ("embed_tokens",), 0.8),
    }
    loaded = load(plan(version, **adapters))
    assert {name: report.error for name, report in loaded.reports.items()} == dict.fromkeys(adapters)
    assert not any(report.has_changed_base for report in loaded.reports.values())
    assert loaded.adapters["other"].tower == loaded.base.tower
    assert len({view.tower for view in (loaded.base, loaded.adapters["official"], loaded.adapters["tower"])}) == 3
    parts = assemble(loaded, 16, 32e6, lambda step: None, largest_piece=32)
    views = {name: view.model for name, view in loaded.adapters.items()}
    assert row_wise(loaded.base.model, views).grouped == {}
    jobs = [job_of(name, adapter, 9 + 2 * index) for index, name in enumerate(NAMES) for adapter in (None, *adapters)]
    wanted = [alone(loaded, job) for job in jobs]
    assert len({tuple(one[:5]) for one in wanted}) > len(NAMES)
    assert run(loaded, parts, jobs) == wanted
    assert run(loaded, parts, jobs[::-1]) == wanted[::-1]


def test_slices_of_several_requests_are_encoded_together_and_remembered(version: str) -> None:
    loaded = load(plan(version))
    parts = assemble(loaded, 8, 16e6, lambda step: None, largest_piece=64)
    seen: list[int] = []
    model = loaded.base.model
    hook = model.vpm.register_forward_pre_hook(lambda module, arguments: seen.append(len(arguments[1])))
    preparer = Preparer(loaded, parts.slots.max_tokens, 64)
    for name in ("two_images", "sliced_image"):
        parts.batch.add(preparer.prepare(job_of(name, tokens=4), lambda event: None, time.monotonic()))
    while not parts.batch.is_idle:
        parts.batch.step()
    assert max(seen) == 4 + 7
    assert sum(seen) == 4 + 7
    run(loaded, parts, [job_of("two_images", tokens=4)])
    assert sum(seen) == 4 + 7
    hook.remove()


@pytest.mark.parametrize("name", ["video_pack3", "video_pack3_2"])
def test_a_pack_of_frames_is_one_part_and_its_times_tell_packs_apart(name: str) -> None:
    loaded = load(plan("4.5"))
    tensors = tensors_of("4.5", name)
    family = loaded.family
    parts = family.pictures.parts(loaded.base.model, tensors)
    assert len(parts) == len(tensors["temporal_ids"]) == len(tensors["image_bound"])
    later = [[one + 1 for one in group] for group in tensors["temporal_ids"]]
    others = family.pictures.parts(loaded.base.model, tensors | {"temporal_ids": later})
    assert {one.digest for one in parts}.isdisjoint(one.digest for one in others)
    still = inputs(vectors("4.5", "case_two_images"))
    together = [*family.pictures.parts(loaded.base.model, still), *parts]
    with torch.inference_mode():
        blocks = family.pictures.encode(loaded.base.model, together, torch.device("cpu"))
    wanted = [vectors("4.5", f"case_{one}")["out.resampler"] for one in ("two_images", name)]
    assert torch.allclose(torch.stack(blocks), torch.cat([torch.from_numpy(one) for one in wanted]), rtol=0, atol=5e-5)


def test_placeholders_in_a_clients_text_never_become_a_picture(version: str) -> None:
    """The placeholder's id may come out of text: in 4.0 it is what cannot be encoded."""
    loaded = load(plan(version))
    parts = assemble(loaded, 8, 16e6, lambda step: None, largest_piece=13)
    tensors = tensors_of(version, "one_image")
    start, end = tensors["image_bound"][0].tolist()
    ids = tensors["input_ids"]
    placeholders = ids[:, start:end]
    more = torch.cat([ids[:, : start - 5], placeholders, ids[:, start - 5 :], placeholders[:, :3]], dim=1)
    shift = end - start
    written = tensors | {
        "input_ids": more,
        "attention_mask": torch.ones_like(more),
        "image_bound": tensors["image_bound"] + shift,
    }
    loaded.base.encoder = FeedingEncoder(version, {"written": written})
    with torch.inference_mode():
        features = loaded.base.model.get_image_features(tensors["pixel_values"], tensors["target_sizes"]).pooler_output
        embeds = loaded.base.model.embed(more, features, written["image_bound"])
        plain = loaded.base.model.get_input_embeddings()(more)
    is_changed = (embeds != plain).any(dim=-1)[0]
    assert is_changed.nonzero()[:, 0].tolist() == list(range(start + shift, end + shift))
    job = job_of("written")
    assert run(loaded, parts, [job, job]) == [alone(loaded, job)] * 2


def test_prompts_that_differ_in_a_picture_only_share_no_beginning_behind_it(version: str) -> None:
    loaded = load(plan(version))
    tensors = tensors_of(version, "two_images")
    pixels = tensors["pixel_values"].clone()
    pixels[..., -14:] += 0.5
    encoder = FeedingEncoder(version, {"red": tensors, "blue": tensors | {"pixel_values": pixels}})
    loaded.base.encoder = encoder
    names = [
        build_prompt(loaded.family, loaded.base, encoder.encode(job_of(one).messages, ())).names
        for one in ("red", "blue")
    ]
    last = int(tensors["image_bound"][-1, 0])
    assert names[0] is not None
    assert names[1] is not None
    assert names[0].name(last) == names[1].name(last)
    assert names[0].name(last + 1) != names[1].name(last + 1)


def test_bounds_that_do_not_fit_the_slices_are_refused_before_anything_is_computed() -> None:
    loaded = load(plan("2.6"))
    tensors = tensors_of("2.6", "two_images")
    with pytest.raises(ValueError, match="3 blocks for 4 parts of 4 slices"):
        loaded.family.pictures.parts(loaded.base.model, tensors | {"image_bound": tensors["image_bound"][:3]})


def test_a_merged_adapter_answers_as_it_does_mounted(version: str) -> None:
    mounted = load(plan(version, official=GOLDEN / version / "lora"))
    merged = load(replace(plan(version), merged_adapter=GOLDEN / version / "lora"))
    for name in NAMES:
        tensors = tensors_of(version, name)
        with torch.inference_mode():
            wanted = mounted.adapters["official"].model(**tensors).logits
            assert torch.allclose(merged.base.model(**tensors).logits, wanted, rtol=0, atol=LIMIT)


def test_versions_that_are_not_served_are_refused_with_the_reason() -> None:
    old: dict[str, Any] = {"model_type": "minicpmv", "hidden_size": 4096, "query_num": 96, "auto_map": {}}
    for trusted in (False, True):
        with pytest.raises(CheckpointUnsupported, match=r"MiniCPM-V 2\.5.*use MiniCPM-V 2\.6"):
            find_family(old, is_code_trusted=trusted)
    by_class = {**old, "version": 2.6, "architectures": ["MiniCPMO"]}
    for hearing in ({"model_type": "minicpmo"}, by_class):
        with pytest.raises(CheckpointUnsupported, match="MiniCPM-o is not served"):
            find_family(hearing, is_code_trusted=False)


def test_trusted_code_is_not_run_where_it_is_not_needed() -> None:
    loaded = load(replace(plan("4.5"), is_code_trusted=True))
    assert type(loaded.base.model).__module__.startswith("service.")
