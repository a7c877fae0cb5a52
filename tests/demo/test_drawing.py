"""The drawings: the same seed gives the same pixels, and a scene is drawn where and how it says."""

import random
from pathlib import Path

import pytest

from service.demo.drawing import COLORS, COUNTS, POSITIONS, SHAPES, Scene, draw
from service.demo.examples import EXAMPLES, examples_root, write_examples


def test_the_same_scene_gives_the_same_pixels() -> None:
    first, second = (Scene.random(random.Random(5)) for _ in range(2))
    assert first == second
    assert draw(first).tobytes() == draw(second).tobytes()


def test_another_detail_seed_gives_another_picture_of_the_same_scene() -> None:
    pictures = {draw(Scene("red", "star", 2, "center", seed)).tobytes() for seed in range(20)}
    assert len(pictures) == 20


@pytest.mark.parametrize("size", [112, (300, 200), (64, 96)])
def test_the_canvas_has_the_size_that_was_asked_for(size: int | tuple[int, int]) -> None:
    picture = draw(Scene("blue", "circle", 1, "center"), size)
    assert picture.size == ((size, size) if isinstance(size, int) else size)
    assert picture.mode == "RGB"


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("count", COUNTS)
def test_the_figures_lie_around_their_position(position: str, count: int) -> None:
    for seed in range(10):
        picture = draw(Scene("purple", "circle", count, position, seed))
        background = picture.getpixel((0, 0))
        inked = [
            (index % 112, index // 112)
            for index, pixel in enumerate(picture.get_flattened_data())
            if pixel != background
        ]
        middle = [sum(axis) / len(inked) / 112 for axis in zip(*inked, strict=True)]
        assert middle == pytest.approx(POSITIONS[position], abs=0.08)


def test_random_scenes_reach_every_value() -> None:
    rng = random.Random(0)
    scenes = [Scene.random(rng) for _ in range(400)]
    assert {scene.color for scene in scenes} == set(COLORS)
    assert {scene.shape for scene in scenes} == set(SHAPES)
    assert {scene.count for scene in scenes} == set(COUNTS)
    assert {scene.position for scene in scenes} == set(POSITIONS)


def test_the_shipped_pictures_are_the_drawn_examples(tmp_path: Path) -> None:
    write_examples(tmp_path)
    for name in EXAMPLES:
        assert (tmp_path / f"{name}.png").read_bytes() == (examples_root() / f"{name}.png").read_bytes()
