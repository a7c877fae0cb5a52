"""How MiniCPM-V 2.6 to 4.5 cuts a picture: grid, thumbnail and slices, as plain arithmetic on sizes.

Knows no pixel. Sizes are `(width, height)`, grids `(columns, rows)`. Every float operation stands in the order of the
official slicer: an exact 4:1 picture ties between two grids, and the last bit decides.
"""

import math
from dataclasses import dataclass

Size = tuple[int, int]
Grid = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Slicing:
    """How large slices are, and how many there may be.

    Attributes:
        scale_resolution: Side of the square, in pixels, whose area each slice about has.
        patch_size: Side of a patch, in pixels; sides of slices are multiples.
        max_slice_nums: Most slices of a picture beside its thumbnail; 1 cuts nothing.
    """

    scale_resolution: int = 448
    patch_size: int = 14
    max_slice_nums: int = 9


@dataclass(frozen=True, slots=True)
class Layout:
    """How one picture is cut.

    Attributes:
        grid: Columns and rows of slices; None if the thumbnail is all there is.
        thumbnail: Its size in pixels.
        refined: The size in pixels from which the slices are cut; None without a grid.
    """

    grid: Grid | None
    thumbnail: Size
    refined: Size | None

    @property
    def slice_size(self) -> Size | None:
        """Size in pixels of each slice; None without a grid."""
        if self.grid is None or self.refined is None:
            return None
        return self.refined[0] // self.grid[0], self.refined[1] // self.grid[1]

    @property
    def sizes(self) -> tuple[Size, ...]:
        """Sizes in pixels of what the vision tower sees, in order: the thumbnail, then the slices row by row."""
        if self.grid is None or self.slice_size is None:
            return (self.thumbnail,)
        return (self.thumbnail, *[self.slice_size] * (self.grid[0] * self.grid[1]))

    def boxes(self) -> tuple[tuple[int, int, int, int], ...]:
        """Return `(left, top, right, bottom)` of each slice in the refined picture, row by row."""
        if self.grid is None or self.slice_size is None:
            return ()
        width, height = self.slice_size
        columns, rows = self.grid
        return tuple(
            (column * width, row * height, (column + 1) * width, (row + 1) * height)
            for row in range(rows)
            for column in range(columns)
        )


def layout_of(size: Size, slicing: Slicing) -> Layout:
    """Say how a picture of a size is cut.

    Args:
        size: Width and height in pixels, at least 1.
        slicing: The bounds.
    """
    grid = choose_grid(size, slicing)
    thumbnail = _fitted(size, slicing, is_upscaled=grid is None)
    return Layout(grid, thumbnail, _refined(size, grid, slicing) if grid else None)


def choose_grid(size: Size, slicing: Slicing) -> Grid | None:
    """Return the grid whose shape is nearest the picture's, or None for a picture that needs none."""
    width, height = size
    area = width * height / (slicing.scale_resolution * slicing.scale_resolution)
    wanted = min(math.ceil(area), slicing.max_slice_nums)
    if wanted <= 1:
        return None
    shape = math.log(width / height)
    counts = (one for one in (wanted - 1, wanted, wanted + 1) if 1 < one <= slicing.max_slice_nums)
    grids = [(columns, count // columns) for count in counts for columns in range(1, count + 1) if not count % columns]
    return min(grids, key=lambda grid: abs(shape - math.log(grid[0] / grid[1])))  # the first of equals


def _refined(size: Size, grid: Grid, slicing: Slicing) -> Size:
    """Return the size that the picture is scaled to before it is cut."""
    (columns, rows), (width, height) = grid, size
    cell = _rounded(width, columns) / columns, _rounded(height, rows) / rows
    best = _fitted(cell, slicing, is_upscaled=True)
    return best[0] * columns, best[1] * rows


def _fitted(size: tuple[float, float], slicing: Slicing, *, is_upscaled: bool) -> Size:
    """Scale to about the area of the model's square, in whole patches; small sizes only if wished."""
    width, height = size
    side = slicing.scale_resolution
    if width * height > side * side or is_upscaled:
        shape = width / height
        height = int(side / math.sqrt(shape))
        width = int(height * shape)
    return _rounded(width, slicing.patch_size), _rounded(height, slicing.patch_size)


def _rounded(length: float, unit: int) -> int:
    """Round to a multiple, halves to the even one, and never to nothing."""
    return max(round(length / unit) * unit, unit)
