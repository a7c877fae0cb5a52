"""Messages and pictures for MiniCPM-V 2.6, 4.0 and 4.5, as the official `chat()` puts them, without remote code.

Knows no weights. Text and places of pictures are settled before any pixel is computed, so that a prompt that is too
long costs next to nothing.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL.Image import Image

from service.domain.generation import Message, Part, PictureRef, Processing, VideoRef
from service.domain.minicpmv import PACKS, STILL, version_of
from service.engine.families.family import THINKING, Encoder
from service.engine.families.minicpmv.image_processing import check_layout, packed, strips_of
from service.engine.families.minicpmv.processing import (
    PLACE,
    MarkerIds,
    Packs,
    ProcessorSettings,
    block_text,
    expand,
    find_blocks,
    pack,
)
from service.engine.families.minicpmv.slicing import Layout, Slicing, layout_of
from service.engine.families.minicpmv.videos import temporal_ids
from service.errors import PromptTooLong

SETTINGS_FILE = "preprocessor_config.json"


@dataclass(frozen=True, slots=True)
class Arrangement:
    """Where pictures stand in a prompt, and how they are cut.

    Attributes:
        text: The rendered conversation with blocks in the places of pictures.
        layouts: One a picture.
        packs: The order of their slices, and which share a block.
    """

    text: str
    layouts: tuple[Layout, ...]
    packs: Packs

    @property
    def is_packed(self) -> bool:
        """Say whether there are video frames, which the model must be told the times of."""
        return any(times != (STILL,) for times in self.packs.times)


class PictureProcessor:
    """Cuts pictures, and writes their blocks, as one preprocessor_config.json says.

    Args:
        settings: What it says.
        can_pack: The model packs video frames.
    """

    def __init__(self, settings: ProcessorSettings, *, can_pack: bool) -> None:
        self.settings = settings
        self.can_pack = can_pack

    def arrange(
        self,
        text: str,
        pictures: Sequence[Image],
        *,
        max_slice_nums: int | None = None,
        is_numbered: bool | None = None,
        temporal_ids: Sequence[Sequence[int]] | None = None,
    ) -> Arrangement:
        """Cut pictures on paper and write their blocks.

        Args:
            text: The rendered conversation, a `PLACE` in it for each picture.
            pictures: In the order of their places.
            max_slice_nums: Most slices of each; None as the settings say.
            is_numbered: Blocks begin with their picture's number; None as the settings say.
            temporal_ids: Times of video frames in tenths of a second, in groups that share blocks, and [-1] for each
                other picture.

        Raises:
            InvalidPicture: One is too long for the vision tower.
            ValueError: Places, pictures and times differ in number, or the model packs no frames.
        """
        if temporal_ids is not None and not self.can_pack:
            raise ValueError("temporal_ids: only MiniCPM-V 4.5 packs video frames; send them as pictures")
        settings = self.settings
        slicing = self._slicing(max_slice_nums)
        layouts = tuple(layout_of(one.size, slicing) for one in pictures)
        for index, (picture, layout) in enumerate(zip(pictures, layouts, strict=True)):
            check_layout(layout, picture.size, index, slicing.patch_size)
        packs = pack([len(one.sizes) for one in layouts], temporal_ids)
        numbered = settings.is_numbered if is_numbered is None else is_numbered
        blocks = [
            None
            if index in packs.unwritten
            else block_text(layout.grid, settings.markers, settings.block_tokens, index if numbered else None)
            for index, layout in enumerate(layouts)
        ]
        return Arrangement(expand(text, blocks), layouts, packs)

    def pixels(self, pictures: Sequence[Image], arrangement: Arrangement) -> dict[str, Any]:
        """Compute what the vision tower takes; nothing without pictures.

        Returns:
            `pixel_values` `(1, 3, patch, patch x patches)` float32, `target_sizes` `(slices, 2)` int32, height and
            width of each slice in patches, and for video frames `temporal_ids`, a list of times a block.
        """
        import torch

        if not pictures:
            return {}
        patch = self.settings.slicing.patch_size
        layouts, packs = arrangement.layouts, arrangement.packs
        strips = [
            strips_of(one, layout, self.settings.normalising, patch)
            for one, layout in zip(pictures, layouts, strict=True)
        ]
        sizes = [layouts[picture].sizes[number] for picture, number in packs.slices]
        tensors: dict[str, Any] = {
            "pixel_values": packed([strips[picture][number] for picture, number in packs.slices]),
            "target_sizes": torch.tensor([[height // patch, width // patch] for width, height in sizes]).int(),
        }
        if arrangement.is_packed:
            tensors["temporal_ids"] = [list(times) for times in packs.times]
        return tensors

    def _slicing(self, max_slice_nums: int | None) -> Slicing:
        slicing = self.settings.slicing
        return slicing if max_slice_nums is None else replace(slicing, max_slice_nums=max_slice_nums)


class MiniCPMVEncoder(Encoder):
    """Encodes through the chat template of the tokenizer and the picture processing of this package.

    Args:
        tokenizer: A transformers tokenizer with a chat template.
        control_tokens: Tokens that a client must not be able to write; those that build blocks always belong to them.
        processor: Cuts pictures.
        context_tokens: Most tokens of a prompt; None if unknown.
    """

    def __init__(
        self, tokenizer: Any, control_tokens: frozenset[str], processor: PictureProcessor, context_tokens: int | None
    ) -> None:
        markers = processor.settings.markers
        self._ids = MarkerIds.of(tokenizer, markers)
        super().__init__(tokenizer, control_tokens | frozenset(markers.texts), self._ids.unk)
        self.can_slice = processor.settings.can_slice
        self.can_pack = processor.can_pack
        self._processor = processor
        self._context_tokens = context_tokens

    def claims(self) -> dict[str, int]:
        """Return the id of the placeholder."""
        return {"image_token": self._ids.unk}

    def _apply(self, messages: Sequence[Message], pictures: Sequence[Image], processing: Processing) -> dict[str, Any]:
        import torch

        placed = [pictures[place.index] for one in messages for place in one.pictures]
        with self._lock:
            text = self._rendered(messages, processing)
            arrangement = self._processor.arrange(text, placed, **_cutting(messages, processing))
            ids = self.tokenizer(arrangement.text)["input_ids"]
        self._check_length(len(ids))
        return {"input_ids": torch.tensor([ids], dtype=torch.int64), **self._processor.pixels(placed, arrangement)}

    def _finish(self, tensors: dict[str, Any]) -> dict[str, Any]:
        """Add the places of blocks, and a mask that hides nothing.

        The official mask is `ids != 0`, which hides every "!" from 2.6 and 4.5, and all pictures from a vocabulary
        whose placeholder is 0.
        """
        import torch

        ids = tensors["input_ids"]
        finished = {**tensors, "attention_mask": torch.ones_like(ids)}
        if "pixel_values" in tensors:
            blocks = find_blocks(ids[0].tolist(), self._ids, self._processor.settings.block_tokens)
            wanted = len(tensors.get("temporal_ids", tensors["target_sizes"]))
            if len(blocks) != wanted:
                raise ValueError(f"the prompt has {len(blocks)} blocks for {wanted} slices of pictures")
            finished["image_bound"] = torch.tensor(blocks, dtype=torch.int64)
        return finished

    def _image_tokens(self, tensors: dict[str, Any], prompt_ids: tuple[int, ...]) -> int:
        """Count what blocks hold: in some vocabularies, text that cannot be encoded becomes the same id."""
        return len(tensors.get("image_bound", ())) * self._processor.settings.block_tokens

    def _rendered(self, messages: Sequence[Message], processing: Processing) -> str:
        """Render the template, a `PLACE` for each picture; thinking is off unless asked for, as in `chat()`."""
        conversation = [
            {
                "role": message.role,
                "content": "\n".join(_written(part) for part in message.content),
            }
            for message in messages
        ]
        switches = {THINKING: False, **self._switches(processing)} if self.can_think else {}
        text: str = self.tokenizer.apply_chat_template(
            conversation, tokenize=False, add_generation_prompt=True, **switches
        )
        return text

    def _check_length(self, tokens: int) -> None:
        if self._context_tokens is not None and tokens >= self._context_tokens:
            raise PromptTooLong(
                f"the prompt has {tokens} tokens, and the model's context {self._context_tokens} for prompt and answer "
                "together; shorten the prompt, send fewer pictures, or lower max_slice_nums"
            )


def _written(part: Part) -> str:
    """Return what stands for a part in the text: a `PLACE` a picture, and one on a line of its own a frame."""
    if isinstance(part, VideoRef):
        return "\n".join([PLACE] * len(part.frames))
    return PLACE if isinstance(part, PictureRef) else part


def _cutting(messages: Sequence[Message], processing: Processing) -> dict[str, Any]:
    """Return how a conversation's pictures are cut, numbered and timed, as keywords of `arrange`.

    With a video all its pictures are whole and without numbers, unless the request says how they are cut.
    Source: the call of `chat()` for videos in the model card of MiniCPM-V 4.5.
    """
    times, most = temporal_ids(messages), processing.max_slice_nums
    if times is None:
        return {"max_slice_nums": most}
    return {"max_slice_nums": most or 1, "is_numbered": False, "temporal_ids": times}


def load_encoder(folder: Path, control_tokens: frozenset[str], model: Any) -> MiniCPMVEncoder:
    """Load the encoder of a folder; none of its code runs.

    Args:
        folder: Of the checkpoint: tokenizer files and preprocessor_config.json.
        control_tokens: Tokens that a client must not be able to write.
        model: Its config names `version`, `query_num`, `vision_config.patch_size` and `max_position_embeddings`.

    Raises:
        OSError: A file is missing.
        ValueError: preprocessor_config.json cannot be used or differs from the model, or the tokenizer lacks a marker
            or a chat template.
    """
    settings = read_settings(folder)
    for name, own, models in (
        ("image_feature_size", settings.block_tokens, model.config.query_num),
        ("patch_size", settings.slicing.patch_size, model.config.vision_config.patch_size),
    ):
        if own != models:
            raise ValueError(f"{SETTINGS_FILE}: {name} is {own}, and the model's is {models} by config.json")
    tokenizer = load_tokenizer(folder)
    if not tokenizer.chat_template:
        raise ValueError(
            "the tokenizer has no chat template; restore chat_template in tokenizer_config.json, or chat_template.jinja"
        )
    processor = PictureProcessor(settings, can_pack=version_of({"version": model.config.version}) == PACKS)
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return MiniCPMVEncoder(tokenizer, control_tokens, processor, context)


def read_settings(folder: Path) -> ProcessorSettings:
    """Read a folder's preprocessor_config.json.

    Raises:
        OSError: It is missing.
        ValueError: It is no JSON object, or a setting cannot be used.
    """
    document = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
    if not isinstance(document, dict):
        raise ValueError(f"{SETTINGS_FILE} is no JSON object")  # noqa: TRY004  the type of a file's content
    return ProcessorSettings.read(document)


def load_tokenizer(folder: Path) -> Any:
    """Load a tokenizer by the files that there are, whatever class tokenizer_config.json names.

    The class is remote code in 4.5 (`MiniCPMVTokenizerFast`), which only adds ids that are looked up by text here.

    Raises:
        OSError: Its files are missing.
    """
    from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer

    if (folder / "tokenizer.json").is_file():
        return PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    if all((folder / name).is_file() for name in ("vocab.json", "merges.txt")):
        return Qwen2Tokenizer.from_pretrained(folder, local_files_only=True)
    raise FileNotFoundError("the folder has neither a tokenizer.json nor a vocab.json with a merges.txt")
