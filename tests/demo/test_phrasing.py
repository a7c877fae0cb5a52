"""The words: each style says the same scene, and no two scenes share a description."""

import itertools
import json

import pytest

from service.demo.drawing import COLORS, COUNTS, POSITIONS, SHAPES, Scene
from service.demo.phrasing import KINDS, LANGUAGES, STYLES, Kind, Language, Style, answer, question

SCENE = Scene("red", "circle", 1, "top left")
SCENES = Scene("orange", "square", 3, "center")


@pytest.mark.parametrize(
    ("style", "language", "expected"),
    [
        ("plain", "en", "a red circle at the top left"),
        ("plain", "zh", "左上角有一个红色的圆形"),
        ("json", "en", '{"color": "red", "shape": "circle", "count": 1, "position": "top left"}'),
        ("tokens", "en", "<fig>one circle</fig> <col>red</col> <pos>top left</pos>"),
        ("polite", "en", "The picture shows a red circle at the top left."),
    ],
)
def test_a_scene_is_described_in_the_asked_style(style: Style, language: Language, expected: str) -> None:
    assert answer(SCENE, "describe", language, style) == expected


def test_several_figures_are_spoken_of_in_the_plural() -> None:
    answers = [answer(SCENES, kind, "en") for kind in KINDS]
    assert answers == [
        "three orange squares at the center",
        "They are orange.",
        "They are squares.",
        "There are three.",
        "They are at the center.",
    ]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_no_two_scenes_share_a_description(style: Style, language: Language) -> None:
    scenes = [Scene(*values) for values in itertools.product(COLORS, SHAPES, COUNTS, POSITIONS)]
    assert len({answer(scene, "describe", language, style) for scene in scenes}) == len(scenes)


@pytest.mark.parametrize("kind", KINDS)
def test_json_answers_can_be_parsed(kind: Kind) -> None:
    assert set(json.loads(answer(SCENES, kind, "zh", "json"))) <= {"color", "shape", "count", "position"}


def test_a_question_without_randomness_is_always_worded_the_same() -> None:
    assert question("describe", "en") == "What is in the picture?"
    assert question("count", "zh") == "有几个图形？"
