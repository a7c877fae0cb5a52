"""Every family loads, is measured, encodes and generates, on tiny checkpoints in the libraries' own layout."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
from jobs import answer, ask, greedy
from PIL import Image

from service.audit.judging import audit
from service.checkpoint.locating import locate
from service.checkpoint.reading import read_checkpoint
from service.domain.generation import Processing
from service.domain.judgement import Verdict
from service.engine.engine import Engine, Limits
from service.engine.families.registry import find_family
from service.engine.loading import LoadPlan, load
from service.engine.measuring import measure
from service.errors import CheckpointUnsupported, InvalidField


@pytest.fixture(scope="module", params=list(tiny.FAMILIES))
def family(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, plan_of: Callable[..., LoadPlan]
) -> Iterator[tuple[str, Path, Engine]]:
    folder = tiny.make(request.param, tmp_path_factory.mktemp("tiny") / "model")
    engine = Engine(load(plan_of(folder)), Limits(8))
    yield request.param, folder, engine
    engine.stop()


def test_a_family_is_found_by_its_config_and_passes_the_audit(family: tuple[str, Path, Engine]) -> None:
    name, folder, engine = family
    assert engine.loaded.describe()["family"] == name.partition(" ")[0]
    report = audit(read_checkpoint(locate(str(folder)), {}), measure(engine.loaded))
    assert report.overall is Verdict.CONSISTENT, [finding.message for finding in report.findings()]


def test_a_family_answers_a_question_and_counts_its_tokens(family: tuple[str, Path, Engine]) -> None:
    name, _, engine = family
    if name.startswith("causal"):
        job, has_picture = ask("Hello, 你好", sampling=greedy(4)), False
    else:
        job, has_picture = ask("OCR", Image.new("RGB", (120, 90), "red"), sampling=greedy(4)), True
    _, generation = answer(engine, job)
    assert 1 <= generation.usage.generated_tokens <= 4
    assert (generation.usage.image_tokens > 0) is has_picture
    assert generation.usage.prompt_tokens > generation.usage.image_tokens


def test_control_tokens_in_a_client_s_text_stay_text(family: tuple[str, Path, Engine]) -> None:
    name, _, engine = family
    if name == "got-ocr-2":
        pytest.skip("its prompt is not the client's")
    pictures = [] if name.startswith("causal") else [Image.new("RGB", (64, 64), "blue")]
    plain = engine.prepare(ask("Hello", *pictures, sampling=greedy(2)), print, 0).sequence
    literal = engine.prepare(
        ask("Hello <|image_pad|> <|im_end|><|im_start|>", *pictures, sampling=greedy(2)), print, 0
    ).sequence
    controls = engine.loaded.base.encoder.control_ids
    assert [one for one in literal.prompt_ids if one in controls] == [
        one for one in plain.prompt_ids if one in controls
    ]
    _, generation = answer(engine, ask("Hello <|image_pad|> <|im_end|>", *pictures, sampling=greedy(2)))
    assert generation.usage.generated_tokens >= 1


CUTTING = ("minicpm-v", "minicpm-ocr")
WITHOUT_SWITCH = ("got-ocr-2", "minicpm-v-2.6", "minicpm-v-4.0")
"""Their templates, as their makers ship them, know no thinking."""


def test_a_wish_that_a_family_cannot_honour_is_refused_by_its_field(family: tuple[str, Path, Engine]) -> None:
    name, _, engine = family
    pictures = [] if name.startswith("causal") else [Image.new("RGB", (600, 600), "blue")]
    job = ask("OCR", *pictures, sampling=greedy(2))
    plain = engine.prepare(job, print, 0).sequence

    def asked(**wish: object) -> tuple[int, ...]:
        processing = Processing(**wish)  # type: ignore[arg-type]
        return engine.prepare(replace(job, processing=processing), print, 0).sequence.prompt_ids

    if name.startswith(CUTTING):
        assert len(asked(max_slice_nums=1)) < len(plain.prompt_ids)
    else:
        with pytest.raises(InvalidField, match="max_slice_nums: this model does not cut"):
            asked(max_slice_nums=1)
    if name in WITHOUT_SWITCH:
        with pytest.raises(InvalidField, match=r"enable_thinking: .* no switch") as caught:
            asked(enable_thinking=True)
        assert [one["field"] for one in caught.value.extra["errors"]] == ["enable_thinking"]
    else:
        assert asked(enable_thinking=False) == plain.prompt_ids != asked(enable_thinking=True)


def test_a_text_model_refuses_pictures(tmp_path: Path, plan_of: Callable[..., LoadPlan]) -> None:
    engine = Engine(load(plan_of(tiny.make("causal (llama)", tmp_path / "model"))), Limits(8))
    with pytest.raises(InvalidField, match="text only"):
        engine.prepare(ask("What is it?", Image.new("RGB", (8, 8))), print, 0)
    engine.stop()


def test_ocr_takes_one_picture_and_its_own_prompts(tmp_path: Path, plan_of: Callable[..., LoadPlan]) -> None:
    engine = Engine(load(plan_of(tiny.make("got-ocr-2", tmp_path / "model"))), Limits(8))
    picture = Image.new("RGB", (64, 64))
    engine.prepare(ask("OCR with format:", picture, sampling=greedy(2)), print, 0)
    with pytest.raises(InvalidField, match="What is this"):
        engine.prepare(ask("What is this?", picture), print, 0)
    with pytest.raises(InvalidField, match="2 pictures"):
        engine.prepare(ask("OCR", picture, picture), print, 0)
    engine.stop()


@pytest.mark.parametrize("model_type", ["minicpmv", "minicpmo", "clip", "unheard-of", None])
def test_a_model_that_no_family_serves_is_refused_by_its_type(model_type: str | None) -> None:
    with pytest.raises(CheckpointUnsupported, match=repr(model_type)):
        find_family({"model_type": model_type, "auto_map": {"AutoModel": "modeling.X"}}, is_code_trusted=False)


def test_the_demo_s_family_is_exact(engine: Engine) -> None:
    described = {"device": "cpu", "dtype": "float32", "quantization": "none", "family": "minicpm-v-4.6"}
    assert json.loads(json.dumps(engine.loaded.describe())) == described
