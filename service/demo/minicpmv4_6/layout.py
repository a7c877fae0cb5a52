"""The layout of MiniCPM-V 4.6 for training, adapting and measuring, by the public interfaces of transformers.

Knows no task: dialogues and pictures come from the caller.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn
from transformers import AutoModelForImageTextToText, AutoProcessor, AutoTokenizer, MiniCPMV4_6Processor
from transformers.vision_utils import get_vision_nearest_position_ids

from service.demo.dialogues import Dialogue
from service.demo.layout import Encoding, Grid
from service.demo.minicpmv4_6.building import (
    DOWNSAMPLE_MODE,
    TURN_END,
    build_model,
    build_processor,
    build_tokenizer,
    name_special_tokens,
    save_checkpoint,
)

MERGED_PATCHES = {"4x": 4, "16x": 16}[DOWNSAMPLE_MODE]  # patches behind one picture token


class ProcessorEncoding:
    """Encodes through a processor of transformers.

    Args:
        processor: The release's own.
    """

    def __init__(self, processor: MiniCPMV4_6Processor) -> None:
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.placeholder_id: int = processor.tokenizer.convert_tokens_to_ids(processor.image_token)

    def pictures(self, pictures: Sequence[Image.Image]) -> tuple[torch.Tensor, Grid]:
        """Returns the patches of equally large pictures, (N, 3, patch, patch * patches), and their grid."""
        encoded = self.processor.image_processor(list(pictures), return_tensors="pt")
        rows, columns = encoded["target_sizes"][0].tolist()
        packed = encoded["pixel_values"][0]  # (3, patch, N * patches * patch)
        unpacked = packed.view(packed.shape[0], packed.shape[1], len(pictures), -1)
        return unpacked.permute(2, 0, 1, 3).contiguous(), (rows, columns)

    def dialogue(self, dialogue: Dialogue, grid: Grid) -> tuple[list[int], list[int]]:
        """Returns the ids of the prompt and of the answer; the same ids as the processor's, but faster."""
        own = self.processor
        num_image_tokens = grid[0] * grid[1] // MERGED_PATCHES
        before, *after = self._rendered(dialogue).split(own.image_token)
        pieces = [before]
        for index, rest in enumerate(after):
            pieces += [
                own.image_id_start_token, str(index), own.image_id_end_token,
                own.image_start_token, own.image_token * num_image_tokens, own.image_end_token,
                rest,
            ]  # fmt: skip
        encode: Any = self.tokenizer.backend_tokenizer.encode
        return encode("".join(pieces)).ids, encode(dialogue.answer + TURN_END).ids

    def inputs(self, dialogue: Dialogue, pictures: Sequence[Image.Image]) -> dict[str, torch.Tensor]:
        """Returns the arguments of `generate` for one conversation."""
        encoded = self.processor(text=[self._rendered(dialogue)], images=list(pictures) or None, return_tensors="pt")
        return dict(encoded)

    def _rendered(self, dialogue: Dialogue) -> str:
        text: str = self.tokenizer.apply_chat_template(
            list(dialogue.messages), add_generation_prompt=True, tokenize=False
        )
        return text


@dataclass(frozen=True)
class MiniCPMV46:
    """A `Layout`."""

    folder: str = ""
    base_name: str = "minicpm-demo"

    def build(self, texts: Iterable[str], seed: int) -> tuple[Any, ProcessorEncoding]:
        """Returns a fresh float32 model, and an encoding whose tokenizer is trained on `texts`."""
        tokenizer = build_tokenizer(texts)
        return build_model(tokenizer, seed), ProcessorEncoding(build_processor(tokenizer))

    def load(self, folder: Path, tokenizer_folder: Path | None = None) -> tuple[Any, ProcessorEncoding]:
        """Returns the float32 model of a folder, in evaluation mode, and its encoding, or that of another tokenizer."""
        processor = AutoProcessor.from_pretrained(folder)
        if tokenizer_folder is not None:
            processor.tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
        model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
        return model.eval(), ProcessorEncoding(processor)

    def save(self, folder: Path, model: Any, encoding: Encoding) -> None:
        """Writes a complete checkpoint; the model is cast to bfloat16 in place."""
        save_checkpoint(folder, model, build_processor(encoding.tokenizer))

    def save_tokenizer(self, folder: Path, encoding: Encoding) -> None:
        """Writes the files of the tokenizer alone."""
        encoding.tokenizer.save_pretrained(folder)
        name_special_tokens(folder)

    def adapter_settings(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Returns the settings: PEFT names the class of transformers by itself."""
        return settings

    def picture_features(self, model: Any, pixel_values: torch.Tensor, grid: Grid) -> torch.Tensor:
        """Returns the features of equally large pictures, (N, tokens, hidden).

        The model's own `get_image_features` packs pictures into one row and attends to each in a loop; here
        they lie along the batch dimension, which is several times faster and equal up to rounding.
        """
        tower = model.model.vision_tower
        pictures, patches = pixel_values.shape[0], grid[0] * grid[1]
        target_sizes = torch.tensor([grid], dtype=torch.int32)
        position_ids = get_vision_nearest_position_ids(target_sizes, tower.embeddings.num_patches_per_side)
        hidden = tower.embeddings.patch_embedding(pixel_values).flatten(2).transpose(1, 2)
        hidden = hidden + tower.embeddings.position_embedding(position_ids)
        cu_seqlens = torch.tensor([0, patches], dtype=torch.int32)
        for layer in tower.encoder.layers:
            hidden = layer(hidden, None, cu_seqlens=cu_seqlens, max_seqlen=None)
        packed = tower.post_layernorm(hidden).reshape(1, pictures * patches, -1)
        return torch.stack(model.model.merger(packed, target_sizes.expand(pictures, 2)))

    def seeing_modules(self, model: Any) -> tuple[nn.Module, ...]:
        """Returns the modules between pixels and the language model."""
        return model.model.vision_tower, model.model.merger
