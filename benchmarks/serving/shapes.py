"""The sizes of model that are measured, and what load fits each.

Knows no file and no server.
"""

from collections.abc import Mapping
from dataclasses import dataclass

CONTEXT_TOKENS = 4096
"""Of every server: the longest prompt here has about 1,600."""


@dataclass(frozen=True, slots=True)
class Text:
    """The language model: three Gated-DeltaNet layers to one of full attention.

    Attributes:
        rows: Of the vocabulary matrix.
        inner: Width of the MLP.
        heads: Query heads of full attention; each is `head_size` wide.
        kv_heads: Heads of keys and values.
        delta_heads: Heads of Gated DeltaNet, for keys and for values; each is `delta_size` wide.
        is_tied: The vocabulary matrix is also the head.
    """

    rows: int
    hidden: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    delta_heads: int
    delta_size: int
    is_tied: bool


@dataclass(frozen=True, slots=True)
class Vision:
    """The vision tower.

    Attributes:
        insert_layer: After which layer patches are merged for the first time.
        resolution: Pictures are scaled to about this many pixels squared.
        slices: Most pieces that a larger picture is cut into.
    """

    hidden: int
    inner: int
    layers: int
    heads: int
    insert_layer: int
    resolution: int
    slices: int


@dataclass(frozen=True, slots=True)
class Shape:
    """A size of model and its load.

    Attributes:
        tokens: Of every answer.
        picture_pixels: Width and height of the pictures that are sent.
        rate: Requests per second of the open loop.
        long_rate: Long prompts per second while others decode.
    """

    text: Text
    vision: Vision
    tokens: int
    picture_pixels: tuple[int, int]
    rate: float
    long_rate: float


SHAPES: Mapping[str, Shape] = {
    "70m": Shape(
        Text(32_000, 512, 1536, 8, 8, 2, 64, 8, 64, is_tied=False),
        Vision(256, 1024, 6, 4, 2, 224, 1),
        tokens=64,
        picture_pixels=(224, 224),
        rate=4.0,
        long_rate=0.5,
    ),
    "1.3b": Shape(
        Text(248_320, 1024, 3584, 24, 8, 2, 256, 16, 128, is_tied=True),
        Vision(1152, 4304, 27, 16, 6, 448, 9),
        tokens=32,
        picture_pixels=(400, 300),
        rate=0.4,
        long_rate=0.05,
    ),
}
