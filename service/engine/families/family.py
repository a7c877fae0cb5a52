"""What a family is, and how messages become tensors whatever the family.

Knows no single model; each has a file or a folder of its own beside this one.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw

from service.domain.generation import AS_TUNED, Message, PictureRef, Processing, VideoRef
from service.engine.families.pictures import WholePictures
from service.engine.families.sanitising import Sanitiser
from service.errors import InvalidField

if TYPE_CHECKING:
    import torch

THINKING = "enable_thinking"
"""The variable of chat templates that switches thinking on or off."""
AS_TENSORS = {"tokenize": True, "add_generation_prompt": True, "return_dict": True, "return_tensors": "pt"}
"""Arguments of `apply_chat_template` for a prompt as the model takes it."""
NO_VIDEOS = (
    "this model takes no videos; only MiniCPM-V 4.5 takes frames with their times: "
    "send each frame as a picture, {'type': 'image'}"
)


@dataclass(frozen=True, slots=True)
class Encoded:
    """A conversation as the model takes it.

    Attributes:
        tensors: Keyword arguments of the model; `input_ids` is `(1, prompt_tokens)`, int64, on the CPU.
        prompt_ids: The same ids as a tuple.
        image_tokens: How many of them stand for picture features.
    """

    tensors: dict[str, Any]
    prompt_ids: tuple[int, ...]
    image_tokens: int

    def on(self, device: "torch.device") -> dict[str, Any]:
        """Return the model's arguments with their tensors on a device."""
        return {key: one.to(device) if hasattr(one, "to") else one for key, one in self.tensors.items()}


class Encoder(ABC):
    """Turns messages and pictures into tensors for one tokenizer; may be called from any thread.

    Attributes:
        tokenizer: The transformers tokenizer.
        control_ids: Ids that never appear in answers as text.
        can_slice: It cuts pictures into slices, and a request may say into how many at most.
        can_think: Its chat template has a switch for thinking.
        can_pack: It takes frames of videos with their times.
    """

    tokenizer: Any
    control_ids: frozenset[int]
    can_slice: bool = False
    can_think: bool = False
    can_pack: bool = False

    def __init__(self, tokenizer: Any, control_tokens: frozenset[str], image_token_id: int | None) -> None:
        self.tokenizer = tokenizer
        self.control_ids = frozenset(tokenizer.convert_tokens_to_ids(sorted(control_tokens)))
        self.image_token_id = image_token_id
        self.can_think = THINKING in str(tokenizer.chat_template or "")
        self._sanitiser = Sanitiser(tokenizer, control_tokens)
        self._lock = threading.Lock()  # fast tokenizers keep padding and truncation as mutable state

    def encode(
        self, messages: Sequence[Message], pictures: Sequence[Image.Image], processing: Processing = AS_TUNED
    ) -> Encoded:
        """Render the chat template, tokenize, and turn pictures into pixel tensors.

        Control tokens that a client wrote into its text are encoded as text: they open no turn and stand for no
        picture.

        Raises:
            InvalidField: The request asks for processing that this model does not have, or shows it a video.
        """
        self._check(messages, processing)
        marked = self._apply(self._sanitiser.mark(messages), pictures, processing)
        tensors = self._finish(self._sanitiser.unmark(marked))
        ids: torch.Tensor = tensors["input_ids"]
        prompt_ids = tuple(ids[0].tolist())
        return Encoded(tensors, prompt_ids, self._image_tokens(tensors, prompt_ids))

    def claims(self) -> dict[str, int]:
        """Return the special ids that the processor uses, by role."""
        return {}

    @abstractmethod
    def _apply(
        self, messages: Sequence[Message], pictures: Sequence[Image.Image], processing: Processing
    ) -> dict[str, Any]:
        """Return the tensors of one conversation; the client's control tokens are marked.

        Holds `_lock` while the tokenizer computes.
        """

    def _finish(self, tensors: dict[str, Any]) -> dict[str, Any]:
        """Add what depends on the final places of tokens."""
        return tensors

    def _image_tokens(self, tensors: dict[str, Any], prompt_ids: tuple[int, ...]) -> int:
        """Count the tokens that stand for picture features."""
        return prompt_ids.count(self.image_token_id) if self.image_token_id is not None else 0

    def _check(self, messages: Sequence[Message], processing: Processing) -> None:
        """Refuse what would be ignored."""
        problems = [] if self.can_pack else [(place, NO_VIDEOS) for place in _video_places(messages)[:1]]
        if processing.max_slice_nums is not None and not self.can_slice:
            problems.append(("max_slice_nums", "this model does not cut pictures into slices; leave it out"))
        if processing.enable_thinking is not None and not self.can_think:
            problems.append((THINKING, "this model's chat template has no switch for thinking; leave it out"))
        if problems:
            raise InvalidField.of(problems)

    @staticmethod
    def _switches(processing: Processing) -> dict[str, bool]:
        """Return the variables of the chat template that a request sets."""
        return {} if processing.enable_thinking is None else {THINKING: processing.enable_thinking}


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How to load weights: a torch device, a torch dtype, and transformers' name of the attention."""

    device: "torch.device"
    dtype: "torch.dtype"
    attention: str | None
    is_code_trusted: bool

    def keywords(self) -> dict[str, Any]:
        """Return the arguments of `from_pretrained`."""
        keywords: dict[str, Any] = {
            "dtype": self.dtype,
            "use_safetensors": True,
            "local_files_only": True,
            "output_loading_info": True,
            "trust_remote_code": self.is_code_trusted,
        }
        if self.device.type != "cpu":
            keywords["device_map"] = {"": self.device}
        if self.attention:
            keywords["attn_implementation"] = self.attention
        return keywords


class Family(ABC):
    """How models of some `model_type`s are built and called."""

    name: str
    accepts_pictures: bool
    pictures: WholePictures = WholePictures()
    probe_text = "What is this?"
    stop_tokens: tuple[str, ...] = ()
    """Tokens that end an answer whatever generation_config.json lists, where the tokenizer has them."""

    def probe(self) -> tuple[Message, list[Image.Image]]:
        """Return a short question about a small drawing, or without one, for probes and for warming up."""
        pictures = [_drawing()] if self.accepts_pictures else []
        references = (PictureRef(index) for index in range(len(pictures)))
        return Message("user", (*references, self.probe_text)), pictures

    @abstractmethod
    def matches(self, config: dict[str, Any]) -> bool:
        """Say whether this family serves the model of that config.json."""

    @abstractmethod
    def load_model(self, folder: Path, options: LoadOptions) -> tuple[Any, dict[str, Any]]:
        """Return the model in evaluation mode and transformers' loading information."""

    @abstractmethod
    def load_encoder(self, folder: Path, control_tokens: frozenset[str], options: LoadOptions, model: Any) -> Encoder:
        """Return an encoder from a folder of processor and tokenizer files."""


def picture_count(messages: Sequence[Message]) -> int:
    """Count the places for pictures, frames of videos among them."""
    return sum(len(message.pictures) for message in messages)


def _video_places(messages: Sequence[Message]) -> list[str]:
    """Name where in the request videos stand."""
    return [
        f"messages.{turn}.content.{index}"
        for turn, message in enumerate(messages)
        for index, part in enumerate(message.content)
        if isinstance(part, VideoRef)
    ]


def _drawing() -> Image.Image:
    picture = Image.new("RGB", (112, 112), "white")
    ImageDraw.Draw(picture).ellipse((10, 10, 60, 60), fill="red")
    return picture
