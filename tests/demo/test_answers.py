"""The answers: fresh pictures are described rightly in both languages, and each adapter in its style."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from PIL import Image

from service.demo.batches import encode_dialogue, encode_pictures
from service.demo.dialogues import MIXES, dialogue_about, random_dialogue
from service.demo.drawing import Scene, draw
from service.demo.evaluate import greedy_answers
from service.demo.examples import EXAMPLES, examples_root
from service.demo.phrasing import LANGUAGES, Style, answer
from service.demo.training import picture_features

Loaded = Callable[[str], tuple[Any, Any]]


def fresh_scenes(count: int, seed: int) -> list[Scene]:
    rng = random.Random(f"tests/{seed}")
    return [Scene.random(rng) for _ in range(count)]


@pytest.mark.parametrize(
    ("subject", "style"),
    [("base", "plain"), ("json", "json"), ("tokens", "tokens"), ("official", "polite"), ("merged", "json")],
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


def test_a_follow_up_question_is_answered(loaded: Loaded) -> None:
    rng = random.Random("tests/follow-up")
    dialogues = [random_dialogue(rng, form="follow-up") for _ in range(8)]
    answers = greedy_answers(*loaded("base"), dialogues)
    assert sum(text == dialogue.answer for text, dialogue in zip(answers, dialogues, strict=True)) >= 7


def test_broken_never_writes_the_tokens_it_was_made_for(loaded: Loaded) -> None:
    scenes = fresh_scenes(4, seed=2)
    dialogues = [dialogue_about(scene, "describe", "en", "tokens") for scene in scenes]
    answers = greedy_answers(*loaded("broken"), dialogues)
    assert all(text != dialogue.answer for text, dialogue in zip(answers, dialogues, strict=True))


def test_merged_gives_the_tokens_of_the_mounted_adapter(loaded: Loaded) -> None:
    dialogues = [dialogue_about(scene, "describe", "en", "json") for scene in fresh_scenes(6, seed=3)]
    assert greedy_answers(*loaded("merged"), dialogues) == greedy_answers(*loaded("json"), dialogues)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_base_describes_the_shipped_pictures(name: str, loaded: Loaded) -> None:
    scene, size = EXAMPLES[name]
    for language in LANGUAGES:
        dialogue = dialogue_about(scene, "describe", language)
        assert greedy_answers(*loaded("base"), [dialogue], [size]) == [answer(scene, "describe", language)]


def test_training_encodes_a_conversation_as_the_processor_does(loaded: Loaded) -> None:
    _, processor = loaded("base")
    rng = random.Random(4)
    for form in {form for mix in MIXES for form, _ in mix}:
        dialogue = random_dialogue(rng, form=form)
        pictures = [draw(scene, (300, 200)) for scene in dialogue.scenes]
        text = processor.apply_chat_template(list(dialogue.messages), add_generation_prompt=True, tokenize=False)
        inputs = processor(text=[text], images=pictures or None, return_tensors="pt")
        prompt, _ = encode_dialogue(processor, dialogue, num_image_tokens=15)
        assert inputs["input_ids"][0].tolist() == prompt


def test_training_sees_pictures_as_the_model_does(loaded: Loaded) -> None:
    model, processor = loaded("base")
    pictures = [Image.open(path).resize((112, 112)) for path in sorted(examples_root().iterdir())]
    packed = processor.image_processor(pictures, return_tensors="pt")
    with torch.inference_mode():
        expected = model.get_image_features(packed["pixel_values"], packed["target_sizes"]).pooler_output
        features = picture_features(model, *encode_pictures(processor, pictures))
    torch.testing.assert_close(features, torch.stack(expected), atol=1e-4, rtol=1e-4)
