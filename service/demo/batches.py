"""Turns dialogues into tensors for training: token ids, labels and pixel patches of one size.

Knows no layout and no model: an `Encoding` says how, and what is done with a batch is decided in `training`.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch.utils.data import Dataset

from service.demo.dialogues import MIXES, Dialogue, Mix, random_dialogue
from service.demo.drawing import COLORS, COUNTS, POSITIONS, SHAPES, Scene, draw
from service.demo.layout import Encoding, Grid
from service.demo.phrasing import Style

IGNORED_LABEL = -100
CANVASES: dict[tuple[int, int], int] = {
    (112, 112): 64, (224, 224): 10, (300, 200): 8, (200, 300): 8, (160, 120): 5, (96, 96): 5,
}  # fmt: skip
"""Sizes of the drawn pictures, (width, height) in pixels, and how often each is met, in percent."""


@dataclass(frozen=True)
class Batch:
    """Right-padded conversations (B, T) and the pictures (N) that they show, all of one canvas size."""

    input_ids: torch.Tensor
    """(B, T) token ids."""
    labels: torch.Tensor
    """(B, T) the id that follows where it is part of the answer, `IGNORED_LABEL` elsewhere."""
    places: torch.Tensor
    """(B, T) whether picture features go there."""
    pixel_values: torch.Tensor
    """(N, 3, patch, patches * patch) float32."""
    grid: Grid
    """Rows and columns of patches of every picture."""
    properties: torch.Tensor
    """(N, 4) indices of colour, shape, count and position."""


@dataclass(frozen=True)
class Batches(Dataset[Batch]):
    """So many batches, drawn when asked for; item i depends on the seed and i alone."""

    encoding: Encoding
    seed: int
    steps: int
    batch_size: int
    style: Style = "plain"
    mixes: Mapping[Mix, int] = field(default_factory=lambda: MIXES)

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Batch:
        if step >= self.steps:
            raise IndexError(step)
        rng = random.Random(f"{self.seed}/{step}")
        canvas = rng.choices(list(CANVASES), list(CANVASES.values()))[0]
        mix = rng.choices(list(self.mixes), list(self.mixes.values()))[0]
        forms = rng.choices([form for form, _ in mix], [share for _, share in mix], k=self.batch_size)
        return collate(self.encoding, [random_dialogue(rng, self.style, form) for form in forms], canvas)


def collate(encoding: Encoding, dialogues: list[Dialogue], canvas: tuple[int, int]) -> Batch:
    """Draws the scenes of `dialogues` on one canvas size and encodes the conversations."""
    scenes = [scene for dialogue in dialogues for scene in dialogue.scenes]
    pixel_values, grid = encoding.pictures([draw(scene, canvas) for scene in scenes])
    rows = [encoding.dialogue(dialogue, grid) for dialogue in dialogues]
    longest = max(len(prompt) + len(answer) for prompt, answer in rows) - 1
    input_ids = torch.full((len(rows), longest), encoding.tokenizer.pad_token_id)
    labels = torch.full((len(rows), longest), IGNORED_LABEL)
    for row, (prompt, answer) in enumerate(rows):
        whole = torch.tensor(prompt + answer)
        input_ids[row, : len(whole) - 1] = whole[:-1]
        labels[row, len(prompt) - 1 : len(whole) - 1] = whole[len(prompt) :]
    places = input_ids == encoding.placeholder_id
    properties = torch.tensor([_properties(scene) for scene in scenes])
    return Batch(input_ids, labels, places, pixel_values, grid, properties)


def _properties(scene: Scene) -> tuple[int, int, int, int]:
    return (
        list(COLORS).index(scene.color),
        SHAPES.index(scene.shape),
        COUNTS.index(scene.count),
        list(POSITIONS).index(scene.position),
    )
