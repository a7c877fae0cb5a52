"""What training, adapting and measuring need to know of a checkpoint's layout.

Knows none: `minicpmv4_6` and `minicpmv4_5` are two, each a package beside this file.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from torch import nn

from service.demo.dialogues import Dialogue

Grid = tuple[int, int]
"""Rows and columns of patches of a picture."""


class Encoding(Protocol):
    """A tokenizer and the processing of pictures around it."""

    @property
    def tokenizer(self) -> Any:
        """The transformers tokenizer, of which more tokens may be asked."""

    @property
    def placeholder_id(self) -> int:
        """The id in whose places picture features go."""

    def pictures(self, pictures: Sequence[Image.Image]) -> tuple[torch.Tensor, Grid]:
        """Returns the patches of equally large pictures, (N, 3, patch, patch * patches), and their grid."""

    def dialogue(self, dialogue: Dialogue, grid: Grid) -> tuple[list[int], list[int]]:
        """Returns the ids of the prompt, its pictures of that grid, and of the answer with the end of its turn."""

    def inputs(self, dialogue: Dialogue, pictures: Sequence[Image.Image]) -> dict[str, torch.Tensor]:
        """Returns the arguments of `generate` for one conversation, by the way that a server goes."""


class Layout(Protocol):
    """How checkpoints of one release are built, computed and written; `Any` is the model, of its own class."""

    @property
    def folder(self) -> str:
        """Where its checkpoints lie below the demo's root."""

    @property
    def base_name(self) -> str:
        """What stands in an adapter's configuration, where PEFT would write a path."""

    def build(self, texts: Iterable[str], seed: int) -> tuple[Any, Encoding]:
        """Returns a fresh float32 model, and an encoding whose tokenizer is trained on `texts`."""

    def load(self, folder: Path, tokenizer_folder: Path | None = None) -> tuple[Any, Encoding]:
        """Returns the float32 model of a folder, in evaluation mode, and its encoding, or that of another tokenizer."""

    def save(self, folder: Path, model: Any, encoding: Encoding) -> None:
        """Writes a complete checkpoint; the model is cast to bfloat16 in place."""

    def save_tokenizer(self, folder: Path, encoding: Encoding) -> None:
        """Writes the files of the tokenizer alone, as adapters ship it."""

    def adapter_settings(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Returns an adapter_config.json as the release's own training writes it, from what PEFT wrote."""

    def picture_features(self, model: Any, pixel_values: torch.Tensor, grid: Grid) -> torch.Tensor:
        """Returns the features, (N, tokens, hidden), of what `Encoding.pictures` returned."""

    def seeing_modules(self, model: Any) -> tuple[nn.Module, ...]:
        """Returns the modules between pixels and the language model."""
