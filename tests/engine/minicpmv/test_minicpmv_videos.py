"""Frames of videos are packed, timed and written as the official code does, and answered as by the model alone."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import picture_goldens as goldens
import pytest
import tiny
import torch
from jobs import ask, greedy
from PIL import Image

from service.api.jobs import RequestLimits, build_job
from service.api.schemas import GenerateRequest
from service.demo import demo_bases
from service.demo.drawing import draw
from service.domain.generation import Event, Generation, Job, Message, PictureRef, Processing, VideoRef
from service.engine.assembly import assemble
from service.engine.families.minicpmv.encoder import MiniCPMVEncoder, PictureProcessor
from service.engine.families.minicpmv.processing import PLACE, ProcessorSettings
from service.engine.families.minicpmv.videos import frames_per_pack, moment, temporal_ids
from service.engine.loading import LoadedModel, LoadPlan, load
from service.engine.preparing import Preparer
from service.engine.prompt import build_prompt
from service.errors import InvalidField
from service.media.limits import PictureLimits
from tests.asking import SCENES, data_url

BLANK = Image.new("RGB", (100, 80))
LIMITS = RequestLimits(PictureLimits(20_000_000, 20_000_000), 8, 2048, 60.0)
VIDEO = {
    "type": "video",
    "video": [data_url(scene) for scene in (*SCENES[:3], SCENES[0], SCENES[1])],
    "timestamps": [0.0, 0.2, 0.41, 0.6, 8.1],
    "frames_per_pack": 3,
}
GROUPS = [[0, 2, 4], [6, 80]]
FRAMES = [draw(scene, 224) for scene in (*SCENES[:3], SCENES[0], SCENES[1])]
QUESTION = "What is in the picture?"


def frames(count: int, per_pack: int | None = None, first: int = 0) -> VideoRef:
    places = tuple(PictureRef(first + index) for index in range(count))
    return VideoRef(places, tuple(index / 5 for index in range(count)), per_pack)


def job_of(*parts: dict[str, Any], tokens: int = 12, **more: Any) -> Job:
    """Return the job that a request with these parts becomes."""
    turn = {"role": "user", "content": [*parts, {"type": "text", "text": QUESTION}]}
    wanted = GenerateRequest.model_validate({"messages": [turn], "max_new_tokens": tokens, **more})
    return build_job(wanted, [], LIMITS, "test", time.monotonic())


@pytest.fixture(scope="module")
def loaded(plan_of: Callable[..., LoadPlan]) -> LoadedModel:
    return load(plan_of(demo_bases()["demo-4.5"], dtype="float32"))


def alone(loaded: LoadedModel, job: Job) -> list[int]:
    encoded = loaded.base.encoder.encode(job.messages, job.pictures, job.processing)
    limit = job.sampling.max_new_tokens
    with torch.inference_mode():
        ids = loaded.base.model.generate(**encoded.tensors, max_new_tokens=limit, do_sample=False)
    new: list[int] = ids[0, len(encoded.prompt_ids) :].tolist()
    return new


@pytest.mark.parametrize(
    ("name", "seconds"), [("video_pack3", (0, 0.3, 0.7)), ("video_pack3_2", (0, 0.3, 0.7, 1.0, 1.3))]
)
def test_a_video_has_the_official_ids_and_blocks(name: str, seconds: tuple[float, ...]) -> None:
    prompt = next(one for one in goldens.prompts("4.5") if one["name"] == name)
    processor = PictureProcessor(ProcessorSettings.read({}), can_pack=True)
    encoder = MiniCPMVEncoder(goldens.word_tokenizer("4.5"), frozenset(goldens.TURNS), processor, None)
    video = VideoRef(tuple(map(PictureRef, range(len(seconds)))), seconds, 3)
    pictures = [Image.new("RGB", tuple(size)) for size in prompt["images"]]
    encoded = encoder.encode([Message("user", (video, "Describe the video"))], pictures)
    assert list(encoded.prompt_ids) == goldens.ids_of(prompt)
    assert encoded.tensors["image_bound"].tolist() == prompt["image_bound"]
    assert encoded.tensors["temporal_ids"] == prompt["processor_kwargs"]["temporal_ids"]
    assert len(encoded.tensors["target_sizes"]) == prompt["n_pixel_values"]


def test_a_moment_is_the_one_that_the_official_arithmetic_gives() -> None:
    scale = np.arange(0, 7200, 0.1)
    official = (scale / 0.1).astype(np.int32)
    assert [moment(one) for one in scale.tolist()] == official.tolist()
    assert [moment(one) for one in (0, 0.04, 0.06, 0.96, 4.3, 7200)] == [0, 0, 1, 10, 42, 72_000]


def test_frames_are_packed_together_only_in_long_videos_unless_asked_for() -> None:
    assert [frames_per_pack(count) for count in (1, 8, 180, 181, 256, 360, 361, 5000)] == [1, 1, 1, 2, 2, 2, 3, 3]
    assert temporal_ids([Message("user", (frames(3), "a"))]) == [[0], [2], [4]]
    assert temporal_ids([Message("user", (frames(5, 2), "a"))]) == [[0, 2], [4, 6], [8]]
    assert temporal_ids([Message("user", (frames(200), "a"))])[:2] == [[0, 2], [4, 6]]  # type: ignore[index]


def test_pictures_beside_videos_are_no_frames() -> None:
    talk = [
        Message("user", (PictureRef(0), frames(2, 2, first=1), "a", PictureRef(3))),
        Message("assistant", ("b",)),
        Message("user", (frames(1, first=4), "c")),
    ]
    assert temporal_ids(talk) == [[-1], [0, 2], [-1], [0]]
    assert temporal_ids([Message("user", (PictureRef(0), "a"))]) is None


def test_a_request_s_video_is_the_official_call(loaded: LoadedModel) -> None:
    """Whole, without numbers, a line a pack: the same ids, pixels and features as by the processor itself."""
    encoder: Any = loaded.base.encoder
    job = job_of(VIDEO)
    encoded = encoder.encode(job.messages, job.pictures, job.processing)
    text = encoder._rendered([Message("user", (*map(PictureRef, range(5)), QUESTION))], Processing())
    assert text.count(f"{PLACE}\n") == 5
    arrangement = encoder._processor.arrange(text, FRAMES, max_slice_nums=1, is_numbered=False, temporal_ids=GROUPS)
    assert list(encoded.prompt_ids) == encoder.tokenizer(arrangement.text)["input_ids"]
    assert "<image_id>" not in arrangement.text
    direct = encoder._processor.pixels(FRAMES, arrangement)
    assert encoded.tensors["temporal_ids"] == direct["temporal_ids"] == GROUPS
    assert torch.equal(encoded.tensors["pixel_values"], direct["pixel_values"])
    assert torch.equal(encoded.tensors["target_sizes"], direct["target_sizes"])
    model, device = loaded.base.model, torch.device("cpu")
    with torch.inference_mode():
        wanted = model.get_image_features(**direct).pooler_output
        found = loaded.family.pictures.encode(model, build_prompt(loaded.family, loaded.base, encoded).parts, device)
    assert torch.equal(torch.stack(found), torch.stack(list(wanted)))
    assert encoded.image_tokens == 2 * 16


def test_videos_pictures_and_text_in_one_batch_are_answered_as_each_alone(loaded: LoadedModel) -> None:
    picture = {"type": "image", "image": data_url(SCENES[1])}
    jobs = [
        job_of(VIDEO),
        job_of(picture),
        job_of({**VIDEO, "timestamps": [1, 2, 3, 4, 5]}),
        job_of(picture, {**VIDEO, "frames_per_pack": None}, tokens=9),
        job_of(tokens=7),
        job_of(VIDEO, max_slice_nums=2),
    ]
    wanted = [alone(loaded, job) for job in jobs]
    parts = assemble(loaded, 8, 16e6, lambda step: None, largest_piece=64)
    preparer = Preparer(loaded, parts.slots.max_tokens, 64)
    for _ in range(2):  # the second time pictures and beginnings are known
        told: list[list[Event]] = [[] for _ in jobs]
        prepared = [preparer.prepare(job, one.append, time.monotonic()) for job, one in zip(jobs, told, strict=True)]
        for index, one in enumerate(prepared):
            parts.batch.add(one)
            for _ in range(index % 3):
                parts.batch.step()
        while not parts.batch.is_idle:
            parts.batch.step()
        assert all(isinstance(one[-1], Generation) for one in told)
        assert [list(one.sequence.generated_ids) for one in prepared] == wanted


def test_packs_are_remembered_by_their_times_and_prompts_too(loaded: LoadedModel) -> None:
    encoder = loaded.base.encoder
    jobs = [job_of({**VIDEO, "timestamps": [0.0, 0.2, 0.4, 0.6, last]}) for last in (0.8, 0.9, 0.9)]
    prompts = [
        build_prompt(loaded.family, loaded.base, encoder.encode(job.messages, job.pictures, job.processing))
        for job in jobs
    ]
    digests = [[part.digest for part in prompt.parts] for prompt in prompts]
    assert digests[0][0] == digests[1][0]
    assert digests[0][1] != digests[1][1]
    assert digests[1] == digests[2]
    assert prompts[0].ids == prompts[1].ids
    names = [prompt.names.name(prompt.tokens) for prompt in prompts if prompt.names]
    assert names[0] != names[1] == names[2]


def test_a_frame_at_zero_is_not_a_picture(loaded: LoadedModel) -> None:
    video = {"type": "video", "video": [data_url(SCENES[0])], "timestamps": [0]}
    digests = set()
    for part in (video, {"type": "image", "image": data_url(SCENES[0])}):
        job = job_of(part, max_slice_nums=1)
        encoded = loaded.base.encoder.encode(job.messages, job.pictures, job.processing)
        digests |= {one.digest for one in build_prompt(loaded.family, loaded.base, encoded).parts}
    assert len(digests) == 2


def test_frames_of_a_pack_that_are_cut_differently_are_refused_in_words(loaded: LoadedModel) -> None:
    wide = Image.new("RGB", (600, 100))
    message = Message("user", (frames(2, 2), "What?"))
    job = replace(ask("What?", BLANK, wide, sampling=greedy(4)), messages=(message,))
    preparer = Preparer(loaded, 512, 64)
    assert preparer.prepare(job, lambda event: None, time.monotonic()).prompt.parts[0].tensors["temporal_ids"] == [0, 2]
    sliced = replace(job, processing=Processing(max_slice_nums=4))
    with pytest.raises(InvalidField, match=r"frames of one pack.*max_slice_nums 1"):
        preparer.prepare(sliced, lambda event: None, time.monotonic())


@pytest.mark.parametrize("version", ["2.6", "4.0"])
def test_a_version_without_packs_says_what_to_send_instead(version: str) -> None:
    processor = PictureProcessor(ProcessorSettings.read({}), can_pack=False)
    encoder = MiniCPMVEncoder(goldens.byte_tokenizer(version), frozenset(goldens.TURNS), processor, None)
    talk = [Message("user", ("a",)), Message("assistant", ("b",)), Message("user", ("c", frames(2)))]
    with pytest.raises(InvalidField, match=r"messages\.2\.content\.1: .*only MiniCPM-V 4\.5 .*send each frame"):
        encoder.encode(talk, [BLANK, BLANK])


@pytest.mark.parametrize("name", [one for one in tiny.FAMILIES if one != "minicpm-v-4.5"])
def test_every_other_family_refuses_a_video(name: str, tmp_path: Path, plan_of: Callable[..., LoadPlan]) -> None:
    loaded = load(plan_of(tiny.make(name, tmp_path / "model")))
    job = replace(ask("What?", BLANK, BLANK), messages=(Message("user", (frames(2), "What?")),))
    words = (
        "text only; send no pictures" if name.startswith("causal") else r"messages\.0\.content\.0: .*takes no videos"
    )
    with pytest.raises(InvalidField, match=words):
        Preparer(loaded, 512, 64).prepare(job, lambda event: None, time.monotonic())
