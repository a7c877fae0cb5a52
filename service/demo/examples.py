"""The few pictures that ship with the demo, for the README and for a first request by hand.

Knows only which scenes they show; that the base describes them rightly is held by a test.
"""

from pathlib import Path

from service.demo.drawing import Scene, draw

EXAMPLES: dict[str, tuple[Scene, tuple[int, int]]] = {
    "red-circle-top-left": (Scene("red", "circle", 1, "top left", detail_seed=7), (224, 224)),
    "three-blue-squares-bottom-right": (
        Scene("blue", "square", 3, "bottom right", detail_seed=13),
        (300, 200),
    ),
    "yellow-star-center": (Scene("yellow", "star", 1, "center", detail_seed=0), (224, 224)),
    "two-green-triangles-top-right": (Scene("green", "triangle", 2, "top right", detail_seed=3), (224, 224)),
}
"""File name without its ending -> scene and size, (width, height) in pixels."""


def examples_root() -> Path:
    """Returns the folder of the shipped pictures."""
    return Path(__file__).parent / "pictures"


def write_examples(folder: Path) -> None:
    """Draws every example into `folder` as PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (scene, size) in EXAMPLES.items():
        draw(scene, size).save(folder / f"{name}.png", optimize=True)
