"""Pictures are cut as the official slicer cuts them."""

import picture_goldens as goldens
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.families.minicpmv.slicing import Layout, Slicing, layout_of

ROWS = goldens.read("geometry.json")["rows"]
SIDES = st.integers(1, 20_000)


def test_every_size_of_the_official_table_is_cut_alike() -> None:
    assert len(ROWS) == 1385
    for width, height, most, *expected in ROWS:
        layout = layout_of((width, height), Slicing(max_slice_nums=most))
        found = [list(one) if one else None for one in (layout.grid, layout.thumbnail, layout.refined)]
        assert found == expected, (width, height, most)


@given(width=SIDES, height=SIDES, most=st.integers(1, 36))
def test_slices_are_whole_patches_and_not_more_than_allowed(width: int, height: int, most: int) -> None:
    layout = layout_of((width, height), Slicing(max_slice_nums=most))
    assert all(side % 14 == 0 and side >= 14 for size in layout.sizes for side in size)
    assert len(layout.sizes) - 1 <= most
    assert (layout.grid is None) == (len(layout.sizes) == 1)


def test_slices_cover_the_refined_picture_row_by_row() -> None:
    layout = layout_of((1280, 720), Slicing())
    assert layout.grid == (3, 2)
    width, height = layout.sizes[1]
    boxes = layout.boxes()
    assert [(left // width, top // height) for left, top, _, _ in boxes] == [(x, y) for y in range(2) for x in range(3)]
    assert boxes[-1][2:] == layout.refined


@pytest.mark.parametrize("size", [(1, 1), (3, 1), (1, 3), (20_000, 1), (1, 20_000)])
def test_a_picture_of_hardly_any_pixels_still_has_a_patch(size: tuple[int, int]) -> None:
    layout = layout_of(size, Slicing())
    assert layout.grid is None
    assert layout == Layout(None, layout.thumbnail, None)
    assert min(layout.thumbnail) >= 14
