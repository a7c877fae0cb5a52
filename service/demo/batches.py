"""Turns dialogues into tensors for training: token ids, labels and pixel patches of one size.

Knows the processor's layout, but no model: what is done with a batch is decided in `training`.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from torch.utils.data import Dataset
from transformers import MiniCPMV4_6Processor

from service.demo.building import DOWNSAMPLE_MODE, TURN_END
from service.demo.dialogues import MIXES, Dialogue, Mix, random_dialogue
from service.demo.drawing import COLORS, COUNTS, POSITIONS, SHAPES, Scene, draw
from service.demo.phrasing import Style

IGNORED_LABEL = -100
MERGED_PATCHES = {"4x": 4, "16x": 16}[DOWNSAMPLE_MODE]  # patches behind one picture token
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
    pixel_values: torch.Tensor
    """(N, 3, patch, patches * patch) float32."""
    grid: tuple[int, int]
    """Rows and columns of patches of every picture."""
    properties: torch.Tensor
    """(N, 4) indices of colour, shape, count and position."""


@dataclass(frozen=True)
class Batches(Dataset[Batch]):
    """So many batches, drawn when asked for; item i depends on the seed and i alone."""

    processor: MiniCPMV4_6Processor
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
        return collate(self.processor, [random_dialogue(rng, self.style, form) for form in forms], canvas)


def collate(processor: MiniCPMV4_6Processor, dialogues: list[Dialogue], canvas: tuple[int, int]) -> Batch:
    """Draws the scenes of `dialogues` on one canvas size and encodes the conversations."""
    scenes = [scene for dialogue in dialogues for scene in dialogue.scenes]
    pixel_values, grid = encode_pictures(processor, [draw(scene, canvas) for scene in scenes])
    num_image_tokens = grid[0] * grid[1] // MERGED_PATCHES
    rows = [encode_dialogue(processor, dialogue, num_image_tokens) for dialogue in dialogues]
    longest = max(len(prompt) + len(answer) for prompt, answer in rows) - 1
    input_ids = torch.full((len(rows), longest), processor.tokenizer.pad_token_id)
    labels = torch.full((len(rows), longest), IGNORED_LABEL)
    for row, (prompt, answer) in enumerate(rows):
        whole = torch.tensor(prompt + answer)
        input_ids[row, : len(whole) - 1] = whole[:-1]
        labels[row, len(prompt) - 1 : len(whole) - 1] = whole[len(prompt) :]
    return Batch(input_ids, labels, pixel_values, grid, torch.tensor([_properties(scene) for scene in scenes]))


def encode_pictures(
    processor: MiniCPMV4_6Processor, pictures: list[Image.Image]
) -> tuple[torch.Tensor, tuple[int, int]]:
    """Returns the patches of equally large pictures, (N, 3, patch, patches * patch), and their grid."""
    encoded = processor.image_processor(pictures, return_tensors="pt")
    rows, columns = encoded["target_sizes"][0].tolist()
    packed = encoded["pixel_values"][0]  # (3, patch, N * patches * patch)
    unpacked = packed.view(packed.shape[0], packed.shape[1], len(pictures), -1)
    return unpacked.permute(2, 0, 1, 3).contiguous(), (rows, columns)


def encode_dialogue(
    processor: MiniCPMV4_6Processor, dialogue: Dialogue, num_image_tokens: int
) -> tuple[list[int], list[int]]:
    """Returns the ids of the prompt and of the answer; the same ids as the processor's, but faster."""
    text = processor.tokenizer.apply_chat_template(list(dialogue.messages), add_generation_prompt=True, tokenize=False)
    before, *after = text.split(processor.image_token)
    pieces = [before]
    for index, rest in enumerate(after):
        pieces += [
            processor.image_id_start_token, str(index), processor.image_id_end_token,
            processor.image_start_token, processor.image_token * num_image_tokens, processor.image_end_token,
            rest,
        ]  # fmt: skip
    encode: Any = processor.tokenizer.backend_tokenizer.encode
    return encode("".join(pieces)).ids, encode(dialogue.answer + TURN_END).ids


def _properties(scene: Scene) -> tuple[int, int, int, int]:
    return (
        list(COLORS).index(scene.color),
        SHAPES.index(scene.shape),
        COUNTS.index(scene.count),
        list(POSITIONS).index(scene.position),
    )
