"""The answers: fresh pictures are described rightly in both languages, and each adapter in its style."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from PIL import Image

from service.demo.dialogues import MIXES, dialogue_about, random_dialogue
from service.demo.drawing import Scene, draw
from service.demo.evaluate import greedy_answers
from service.demo.examples import EXAMPLES, examples_root
from service.demo.phrasing import LANGUAGES, Style, answer
from service.demo.releases import LAYOUTS

Loaded = Callable[[str], tuple[Any, Any]]


def fresh_scenes(count: int, seed: int) -> list[Scene]:
    rng = random.Random(f"tests/{seed}")
    return [Scene.random(rng) for _ in range(count)]


@pytest.mark.parametrize(
    ("subject", "style"),
    [
        ("base", "plain"),
        ("json", "json"),
        ("tokens", "tokens"),
        ("official", "polite"),
        ("merged", "json"),
        ("4.5", "plain"),
        ("4.5-official", "polite"),
    ],
)
def test_fresh_pictures_are_described_rightly_and_in_style(subject: str, style: Style, loaded: Loaded) -> None:
    dialogues = [
        dialogue_about(scene, "describe", language, style)
        for scene in fresh_scenes(8, seed=1)
        for language in LANGUAGES
    ]
    answers = greedy_answers(*loaded(subject), dialogues)
    wrong = [
        (text, dialogue.answer) for text, dialogue in zip(answers, dialogues, strict=True) if text != dialogue.answer
    ]
    assert len(wrong) <= 1, wrong


@pytest.mark.parametrize("subject", ["base", "4.5"])
def test_a_follow_up_question_is_answered(subject: str, loaded: Loaded) -> None:
    rng = random.Random("tests/follow-up")
    dialogues = [random_dialogue(rng, form="follow-up") for _ in range(8)]
    answers = greedy_answers(*loaded(subject), dialogues)
    assert sum(text == dialogue.answer for text, dialogue in zip(answers, dialogues, strict=True)) >= 7


def test_broken_never_writes_the_tokens_it_was_made_for(loaded: Loaded) -> None:
    scenes = fresh_scenes(4, seed=2)
    dialogues = [dialogue_about(scene, "describe", "en", "tokens") for scene in scenes]
    answers = greedy_answers(*loaded("broken"), dialogues)
    assert all(text != dialogue.answer for text, dialogue in zip(answers, dialogues, strict=True))


def test_merged_gives_the_tokens_of_the_mounted_adapter(loaded: Loaded) -> None:
    dialogues = [dialogue_about(scene, "describe", "en", "json") for scene in fresh_scenes(6, seed=3)]
    assert greedy_answers(*loaded("merged"), dialogues) == greedy_answers(*loaded("json"), dialogues)


@pytest.mark.parametrize("subject", ["base", "4.5"])
@pytest.mark.parametrize("name", EXAMPLES)
def test_the_base_describes_the_shipped_pictures(name: str, subject: str, loaded: Loaded) -> None:
    scene, size = EXAMPLES[name]
    for language in LANGUAGES:
        dialogue = dialogue_about(scene, "describe", language)
        assert greedy_answers(*loaded(subject), [dialogue], [size]) == [answer(scene, "describe", language)]


@pytest.mark.parametrize("subject", ["base", "4.5"])
def test_training_encodes_a_conversation_as_the_processor_does(subject: str, loaded: Loaded) -> None:
    _, encoding = loaded(subject)
    rng = random.Random(4)
    for form in sorted({form for mix in MIXES for form, _ in mix}):
        dialogue = random_dialogue(rng, form=form)
        pictures = [draw(scene, (300, 200)) for scene in dialogue.scenes]
        _, grid = encoding.pictures([draw(Scene.random(rng), (300, 200))])
        prompt, _ = encoding.dialogue(dialogue, grid)
        assert encoding.inputs(dialogue, pictures)["input_ids"][0].tolist() == prompt


@pytest.mark.parametrize(("subject", "release"), [("base", "4.6"), ("4.5", "4.5")])
def test_training_sees_pictures_as_the_model_does(subject: str, release: str, loaded: Loaded) -> None:
    model, encoding = loaded(subject)
    pictures = [Image.open(path).resize((112, 112)) for path in sorted(examples_root().iterdir())]
    dialogue = random_dialogue(random.Random(5))
    each = [encoding.inputs(dialogue, [picture]) for picture in pictures]
    with torch.inference_mode():
        expected = [model.get_image_features(one["pixel_values"], one["target_sizes"]).pooler_output[0] for one in each]
        features = LAYOUTS[release].picture_features(model, *encoding.pictures(pictures))
    torch.testing.assert_close(features, torch.stack(expected), atol=1e-4, rtol=1e-4)
