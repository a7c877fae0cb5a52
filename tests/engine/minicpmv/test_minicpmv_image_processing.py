"""Pixels are the official processor's, bit by bit where Pillow is of the same version."""

import hashlib
from typing import Any

import numpy as np
import picture_goldens as goldens
import PIL
import pytest
from PIL import Image

from service.engine.families.minicpmv.image_processing import Normalising, Strip, check_layout, packed, strips_of
from service.engine.families.minicpmv.slicing import Slicing, layout_of
from service.errors import InvalidPicture

CASES = [(version, key) for version in goldens.VERSIONS for key in goldens.read(f"images_{version}.json")["images"]]
PATCH = 14


def strips(picture: Image.Image, most: int = 9) -> list[Strip]:
    return strips_of(picture, layout_of(picture.size, Slicing(max_slice_nums=most)), Normalising(), PATCH)


def digest(values: Any) -> str:
    return hashlib.sha256(values.tobytes()).hexdigest()


@pytest.mark.parametrize(("version", "key"), CASES)
def test_a_drawing_becomes_the_official_patches(version: str, key: str) -> None:
    document = goldens.read(f"images_{version}.json")
    expected = document["images"][key]
    name, _, most = key.partition("|")
    found = strips(goldens.picture(name), 9 if most == "None" else int(most))
    assert [list(one.shape) for one in found] == expected["shapes"]
    if PIL.__version__ == document["pillow"]:
        assert [digest(one) for one in found] == expected["sha256_f32"]
        assert [digest(levels(one)) for one in found] == expected["sha256_u8"]
    for one, total in zip(found, expected["sum_f64"], strict=True):
        assert abs(one.sum(dtype=np.float64) - total) <= 0.001 * one.size  # an eighth of a level


def levels(strip: Strip) -> Any:
    return np.round((strip.astype(np.float64) * 0.5 + 0.5) * 255).astype(np.uint8)


@pytest.mark.parametrize("size", [(100, 1), (100, 3), (3, 100), (1, 1), (3, 3), (600, 3)])
@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA", "LA", "CMYK", "I;16"])
def test_colours_are_told_by_the_mode_and_never_by_a_side_of_one_or_three_pixels(
    size: tuple[int, int], mode: str
) -> None:
    picture = Image.new("RGB", size, "white").convert("L" if mode == "I;16" else mode).convert(mode)
    found = strips(picture)
    assert len(found) == 1
    assert found[0].shape[:2] == (3, PATCH)
    if mode != "I;16":  # whose values end at 255 in RGB
        assert np.all(found[0] == 1)


def test_transparency_is_dropped_as_officially() -> None:
    assert np.array_equal(
        strips(Image.new("RGBA", (50, 40), (255, 0, 0, 0)))[0], strips(Image.new("RGB", (50, 40), "red"))[0]
    )


def test_colours_are_normalised_each_by_its_own_numbers() -> None:
    picture = Image.new("RGB", (14, 14), (255, 0, 51))
    normalising = Normalising((0.5, 0.25, 0.2), (0.5, 0.25, 0.1))
    strip = strips_of(picture, layout_of(picture.size, Slicing()), normalising, PATCH)[0]
    assert np.allclose(strip[:, 0, 0], [1, -1, 0], atol=1e-6)


def test_patches_lie_side_by_side_row_by_row() -> None:
    layout = layout_of((42, 28), Slicing(scale_resolution=28))
    picture = Image.new("L", layout.thumbnail)
    columns, rows = layout.thumbnail[0] // PATCH, layout.thumbnail[1] // PATCH
    for number in range(columns * rows):
        left, top = number % columns * PATCH, number // columns * PATCH
        picture.paste(number * 10, (left, top, left + PATCH, top + PATCH))
    strip = strips_of(
        picture, layout_of(picture.size, Slicing(scale_resolution=28, max_slice_nums=1)), Normalising(), PATCH
    )[0]
    seen = levels(strip)[0, 0, ::PATCH]
    assert seen.tolist() == [number * 10 for number in range(columns * rows)]


def test_slices_are_packed_in_order() -> None:
    found = strips(Image.new("RGB", (640, 480), "red"))
    pixels = packed(found)
    assert tuple(pixels.shape) == (1, 3, PATCH, sum(one.shape[2] for one in found))
    assert np.array_equal(pixels[0, :, :, : found[0].shape[2]].numpy(), found[0])


@pytest.mark.parametrize("size", [(20_000, 1), (1, 20_000)])
def test_a_picture_like_a_thread_is_refused_with_its_number(size: tuple[int, int]) -> None:
    layout = layout_of(size, Slicing())
    with pytest.raises(InvalidPicture, match=rf"picture 2 is {size[0]} x {size[1]}.* 4096"):
        check_layout(layout, size, 2, PATCH)
    check_layout(layout_of((12_000, 60), Slicing()), (12_000, 60), 0, PATCH)
