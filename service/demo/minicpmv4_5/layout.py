"""The layout of MiniCPM-V 4.5 for training, adapting and measuring: the service's own model and picture processing.

Knows no task: dialogues and pictures come from the caller.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn

from service.demo.dialogues import Dialogue
from service.demo.layout import Encoding, Grid
from service.demo.minicpmv4_5.building import (
    PICTURE_SETTINGS,
    TURN_END,
    build_model,
    build_tokenizer,
    save_checkpoint,
    save_tokenizer,
)
from service.engine.families.family import LoadOptions
from service.engine.families.minicpmv.encoder import PictureProcessor, load_tokenizer, read_settings
from service.engine.families.minicpmv.loading import load_minicpmv
from service.engine.families.minicpmv.processing import (
    PLACE,
    MarkerIds,
    ProcessorSettings,
    block_text,
    expand,
    find_blocks,
)

REMOTE_MODULE = "transformers_modules.MiniCPM-V-4_5.modeling_minicpmv"
"""Where the official script finds the model's class, and what PEFT then writes into the adapter."""


class BlockEncoding:
    """Writes a block of placeholders for each picture.

    Args:
        tokenizer: With a chat template.
        settings: Of the pictures, none of which they cut.
    """

    def __init__(self, tokenizer: Any, settings: ProcessorSettings) -> None:
        self.tokenizer = tokenizer
        self.settings = settings
        self._processor = PictureProcessor(settings, can_pack=True)
        self._markers = MarkerIds.of(tokenizer, settings.markers)
        self.placeholder_id = self._markers.unk

    def pictures(self, pictures: Sequence[Image.Image]) -> tuple[torch.Tensor, Grid]:
        """Returns the patches of equally large pictures, (N, 3, patch, patch * patches), and their grid."""
        tensors = self._processor.pixels(pictures, self._processor.arrange(PLACE * len(pictures), pictures))
        rows, columns = tensors["target_sizes"][0].tolist()
        strips = tensors["pixel_values"][0].chunk(len(pictures), dim=2)
        return torch.stack(strips), (rows, columns)

    def dialogue(self, dialogue: Dialogue, grid: Grid) -> tuple[list[int], list[int]]:
        """Returns the ids of the prompt and of the answer; a picture has the same block whatever its grid."""
        settings = self.settings
        blocks = [
            block_text(None, settings.markers, settings.block_tokens, number if settings.is_numbered else None)
            for number in range(len(dialogue.scenes))
        ]
        return self._ids(expand(self._rendered(dialogue), blocks)), self._ids(dialogue.answer + TURN_END)

    def inputs(self, dialogue: Dialogue, pictures: Sequence[Image.Image]) -> dict[str, torch.Tensor]:
        """Returns the arguments of `generate` for one conversation."""
        arrangement = self._processor.arrange(self._rendered(dialogue), pictures)
        ids = self._ids(arrangement.text)
        tensors = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.int64)}
        if pictures:
            tensors |= self._processor.pixels(pictures, arrangement)
            tensors["image_bound"] = torch.tensor(find_blocks(ids, self._markers, self.settings.block_tokens))
        return tensors

    def _rendered(self, dialogue: Dialogue) -> str:
        messages = [
            {
                "role": message["role"],
                "content": "\n".join(PLACE if item["type"] == "image" else item["text"] for item in message["content"]),
            }
            for message in dialogue.messages
        ]
        text: str = self.tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=False, enable_thinking=False
        )
        return text

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.backend_tokenizer.encode(text).ids
        return ids


@dataclass(frozen=True)
class MiniCPMV45:
    """A `Layout`."""

    folder: str = "minicpmv4_5"
    base_name: str = "minicpm-demo-4.5"

    def build(self, texts: Iterable[str], seed: int) -> tuple[Any, BlockEncoding]:
        """Returns a fresh float32 model, and an encoding whose tokenizer is trained on `texts`."""
        tokenizer = build_tokenizer(texts)
        return build_model(tokenizer, seed), BlockEncoding(tokenizer, ProcessorSettings.read(PICTURE_SETTINGS))

    def load(self, folder: Path, tokenizer_folder: Path | None = None) -> tuple[Any, BlockEncoding]:
        """Returns the float32 model of a folder, in evaluation mode, and its encoding, or that of another tokenizer."""
        options = LoadOptions(torch.device("cpu"), torch.float32, None, is_code_trusted=False)
        model, _ = load_minicpmv(folder, options)
        return model, BlockEncoding(load_tokenizer(tokenizer_folder or folder), read_settings(folder))

    def save(self, folder: Path, model: Any, encoding: Encoding) -> None:
        """Writes a complete checkpoint; the model is cast to bfloat16 in place."""
        save_checkpoint(folder, model, encoding.tokenizer)

    def save_tokenizer(self, folder: Path, encoding: Encoding) -> None:
        """Writes the files of the tokenizer alone."""
        save_tokenizer(folder, encoding.tokenizer)

    def adapter_settings(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Returns settings that name the class as the official script knows it."""
        return {**settings, "auto_mapping": {"base_model_class": "MiniCPMV", "parent_library": REMOTE_MODULE}}

    def picture_features(self, model: Any, pixel_values: torch.Tensor, grid: Grid) -> torch.Tensor:
        """Returns the features of equally large pictures, (N, tokens, hidden)."""
        packed = torch.cat(list(pixel_values), dim=2)[None]
        sizes = torch.tensor([grid] * len(pixel_values))
        return torch.stack(model.get_image_features(packed, sizes).pooler_output)

    def seeing_modules(self, model: Any) -> tuple[nn.Module, ...]:
        """Returns the modules between pixels and the language model."""
        return model.vpm, model.resampler
