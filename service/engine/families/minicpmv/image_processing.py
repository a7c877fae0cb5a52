"""Pixels of MiniCPM-V 2.6 to 4.5: a picture becomes normalised patches of its thumbnail and its slices.

Knows no prompt. Scales with Pillow's bicubic filter: other libraries' differ by a few shades, which the models were
not tuned with.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.engine.families.minicpmv.slicing import Layout, Size
from service.errors import InvalidPicture

if TYPE_CHECKING:
    import torch

MAX_SLICE_PATCHES = 4096
"""Patches that the vision tower takes at once: four times a square slice's. Attention takes memory by their square."""
Strip = NDArray[np.float32]
"""Patches of one slice side by side, row by row: `(3, patch, patch x patches)`."""


@dataclass(frozen=True, slots=True)
class Normalising:
    """Mean and standard deviation of each colour, as shares of full brightness."""

    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    deviation: tuple[float, float, float] = (0.5, 0.5, 0.5)


def check_layout(layout: Layout, size: Size, index: int, patch: int) -> None:
    """Refuse a picture so long and thin that one slice of it is too much for the vision tower.

    Args:
        layout: How it is cut.
        size: Its width and height in pixels.
        index: Which picture of the request it is, for the error.
        patch: Side of a patch in pixels.

    Raises:
        InvalidPicture: It is.
    """
    most = max(width * height // patch**2 for width, height in layout.sizes)
    if most > MAX_SLICE_PATCHES:
        raise InvalidPicture(
            f"picture {index} is {size[0]} x {size[1]}, so long that a slice of it has {most} patches; "
            f"the limit is {MAX_SLICE_PATCHES}; crop it or cut it into several pictures"
        )


def strips_of(picture: Image.Image, layout: Layout, normalising: Normalising, patch: int) -> list[Strip]:
    """Return the patches of a picture's thumbnail and slices.

    Args:
        picture: Of any mode: palettes are looked up, grey is repeated, transparency is dropped. Its channels are known
            from its mode, never from its shape, so that a picture 1 or 3 pixels high is no special case.
        layout: How it is cut.
        normalising: Of its colours.
        patch: Side of a patch in pixels.
    """
    return [_patched(_normalised(one, normalising), patch) for one in _cut(picture.convert("RGB"), layout)]


def packed(strips: Sequence[Strip]) -> "torch.Tensor":
    """Put the patches of all slices side by side: `(1, 3, patch, patch x patches)`, float32, on the CPU."""
    import torch

    return torch.from_numpy(np.concatenate(strips, axis=2))[None]


def _cut(picture: Image.Image, layout: Layout) -> list[Image.Image]:
    """Scale and cut; the thumbnail and the slices are both made from the whole picture."""
    thumbnail = picture.resize(layout.thumbnail, Image.Resampling.BICUBIC)
    if layout.refined is None:
        return [thumbnail]
    refined = picture.resize(layout.refined, Image.Resampling.BICUBIC)
    return [thumbnail, *(refined.crop(box) for box in layout.boxes())]


def _normalised(slice_: Image.Image, normalising: Normalising) -> NDArray[np.float32]:
    """Return `(height, width, 3)`, every step in float32."""
    shares = np.asarray(slice_, dtype=np.float32) / np.float32(255)
    mean, deviation = np.asarray((normalising.mean, normalising.deviation), dtype=np.float32)
    centred: NDArray[np.float32] = (shares - mean) / deviation
    return centred


def _patched(pixels: NDArray[np.float32], patch: int) -> Strip:
    """Turn `(height, width, 3)` into a strip."""
    height, width, channels = pixels.shape
    tiles = pixels.reshape(height // patch, patch, width // patch, patch, channels)
    return np.ascontiguousarray(tiles.transpose(4, 1, 0, 2, 3)).reshape(channels, patch, -1)
