"""Draws pictures of simple figures: a `Scene` says what is to be seen, `draw` puts it on a canvas.

Knows neither language nor model: the words for a scene are in `phrasing`, and torch is never imported.
"""

import math
import random
from dataclasses import dataclass

from PIL import Image, ImageDraw

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (214, 36, 40),
    "orange": (246, 128, 20),
    "yellow": (240, 206, 24),
    "green": (36, 156, 70),
    "blue": (38, 82, 214),
    "purple": (142, 48, 172),
}
SHAPES = ("circle", "square", "triangle", "star")
COUNTS = (1, 2, 3, 4)
POSITIONS: dict[str, tuple[float, float]] = {
    "top left": (0.3, 0.3),
    "top right": (0.7, 0.3),
    "bottom left": (0.3, 0.7),
    "bottom right": (0.7, 0.7),
    "center": (0.5, 0.5),
}

# Diameter of one figure as a share of the canvas's shorter side: (smallest, largest) for each count.
_DIAMETERS = {1: (0.26, 0.42), 2: (0.22, 0.25), 3: (0.205, 0.24), 4: (0.2, 0.235)}
_SPACING = 0.26  # between the centres of neighbouring figures of a group, same unit
_COLOR_JITTER = 22
_OUTLINES = {"square": 4, "triangle": 3, "star": 10}  # number of corners
_TILT_DEGREES = 20


@dataclass(frozen=True)
class Scene:
    """What a picture shows; two scenes that differ only in `detail_seed` have the same answers."""

    color: str
    shape: str
    count: int
    position: str
    detail_seed: int = 0
    """Decides what no question asks for: size, exact place, rotation, tints and edge smoothing."""

    @classmethod
    def random(cls, rng: random.Random) -> "Scene":
        """Returns a scene with every property drawn uniformly from `rng`."""
        return cls(
            color=rng.choice(list(COLORS)),
            shape=rng.choice(SHAPES),
            count=rng.choice(COUNTS),
            position=rng.choice(list(POSITIONS)),
            detail_seed=rng.randrange(2**31),
        )


def draw(scene: Scene, size: int | tuple[int, int] = 112) -> Image.Image:
    """Draws `scene`; the same scene and size always give the same pixels.

    Args:
        scene: What to draw.
        size: Side of a square canvas, or its (width, height), in pixels.

    Returns:
        An RGB picture of exactly that size.
    """
    width, height = (size, size) if isinstance(size, int) else size
    rng = random.Random(scene.detail_seed)
    smoothing = rng.choice((1, 2, 3, 4))  # 1 leaves the edges jagged
    background = tuple(rng.randint(212, 255) for _ in range(3))
    canvas = Image.new("RGB", (width * smoothing, height * smoothing), background)
    pen = ImageDraw.Draw(canvas)
    diameter = rng.uniform(*_DIAMETERS[scene.count])
    unit = min(canvas.size)
    for x, y in _centers(scene, rng, canvas.size):
        _draw_figure(pen, scene, (x, y), unit * diameter / 2, rng)
    return canvas.resize((width, height), Image.Resampling.BOX) if smoothing > 1 else canvas


def _centers(scene: Scene, rng: random.Random, canvas: tuple[int, int]) -> list[tuple[float, float]]:
    """Returns the centres of the figures in pixels: one, or some places of a two-by-two group."""
    unit = min(canvas)
    wander = 0.055 if scene.count == 1 else 0.02
    middle_x, middle_y = (
        side * share + unit * rng.uniform(-wander, wander)
        for side, share in zip(canvas, POSITIONS[scene.position], strict=True)
    )
    if scene.count == 1:
        return [(middle_x, middle_y)]
    places = rng.sample([(dx, dy) for dx in (-0.5, 0.5) for dy in (-0.5, 0.5)], scene.count)
    # Without this an incomplete group would lean out of its position, towards a neighbouring one.
    mean_x, mean_y = (sum(offsets) / scene.count for offsets in zip(*places, strict=True))
    return [
        (
            middle_x + unit * ((dx - mean_x) * _SPACING + rng.uniform(-0.008, 0.008)),
            middle_y + unit * ((dy - mean_y) * _SPACING + rng.uniform(-0.008, 0.008)),
        )
        for dx, dy in places
    ]


def _draw_figure(
    pen: ImageDraw.ImageDraw, scene: Scene, center: tuple[float, float], radius: float, rng: random.Random
) -> None:
    fill = tuple(
        min(255, max(0, channel + rng.randint(-_COLOR_JITTER, _COLOR_JITTER))) for channel in COLORS[scene.color]
    )
    x, y = center
    if scene.shape == "circle":
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
    else:
        pen.polygon(_corners(scene.shape, center, radius, rng), fill=fill)


def _corners(shape: str, center: tuple[float, float], radius: float, rng: random.Random) -> list[tuple[float, float]]:
    """Returns the polygon of `shape` inside the circle of `radius`, slightly tilted."""
    corners = _OUTLINES[shape]
    upright = math.radians(45 if shape == "square" else -90)  # a triangle and a star point upwards
    turn = upright + math.radians(rng.uniform(-_TILT_DEGREES, _TILT_DEGREES))
    points = []
    for index in range(corners):
        reach = radius * (0.42 if shape == "star" and index % 2 else 1.08)
        angle = turn + 2 * math.pi * index / corners
        points.append((center[0] + reach * math.cos(angle), center[1] + reach * math.sin(angle)))
    return points
