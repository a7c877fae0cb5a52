"""Any image-text-to-text model that transformers knows natively through its processor.

Also the base class of those that need more than that: MiniCPM-V 4.6 and 4.7, MiniCPM-OCR, GOT-OCR.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL.Image import Image

from service.domain.generation import Message, Part, PictureRef, Processing
from service.engine.families.family import AS_TENSORS, THINKING, Encoder, Family, LoadOptions

SLICES = "max_slice_nums"
"""The setting of image processors that cut pictures into slices."""


class ProcessorEncoder(Encoder):
    """Encodes through a transformers processor and the chat template that it carries."""

    def __init__(self, processor: Any, control_tokens: frozenset[str], image_token_id: int | None) -> None:
        super().__init__(processor.tokenizer, control_tokens, image_token_id)
        self._processor = processor
        self.can_slice = hasattr(processor.image_processor, SLICES) and processor.image_processor.slice_mode
        self.can_think = THINKING in str(processor.chat_template or "")

    def claims(self) -> dict[str, int]:
        """Return the placeholder ids that the processor uses, by role."""
        roles = ("image_token", "video_token")
        found = {role: getattr(self._processor, f"{role}_id", None) for role in roles}
        return {role: value for role, value in found.items() if isinstance(value, int)}

    def _apply(self, messages: Sequence[Message], pictures: Sequence[Image], processing: Processing) -> dict[str, Any]:
        conversation = [
            {"role": message.role, "content": [self._item(part, pictures) for part in message.content]}
            for message in messages
        ]
        with self._lock:  # pixels and all: the processor computes them between rendering and tokenizing
            encoded = self._processor.apply_chat_template(
                conversation, **AS_TENSORS, **self._slices(processing), **self._switches(processing)
            )
        return dict(encoded)

    @staticmethod
    def _slices(processing: Processing) -> dict[str, Any]:
        most = processing.max_slice_nums
        return {} if most is None else {"processor_kwargs": {"images_kwargs": {SLICES: most}}}

    @staticmethod
    def _item(part: Part, pictures: Sequence[Image]) -> dict[str, Any]:
        if isinstance(part, PictureRef):
            return {"type": "image", "image": pictures[part.index]}
        return {"type": "text", "text": part}


class ImageTextFamily(Family):
    """Models of `AutoModelForImageTextToText`."""

    name = "image-text"
    accepts_pictures = True
    model_types: frozenset[str] | None = None
    """None: whatever transformers maps."""

    def matches(self, config: dict[str, Any]) -> bool:
        """Say whether transformers maps the model type to an image-text-to-text class."""
        model_type = config.get("model_type")
        if self.model_types is not None:
            return model_type in self.model_types
        from transformers import CONFIG_MAPPING, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

        return model_type in CONFIG_MAPPING and CONFIG_MAPPING[model_type] in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    def load_model(self, folder: Path, options: LoadOptions) -> tuple[Any, dict[str, Any]]:
        """Load through `AutoModelForImageTextToText`."""
        from transformers import AutoModelForImageTextToText

        model, info = AutoModelForImageTextToText.from_pretrained(folder, **options.keywords())
        return model.eval(), info

    def load_encoder(self, folder: Path, control_tokens: frozenset[str], options: LoadOptions, model: Any) -> Encoder:
        """Load through `AutoProcessor`."""
        from transformers import AutoProcessor

        processor = AutoProcessor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=options.is_code_trusted
        )
        if processor.chat_template is None:  # version 4 of transformers kept it in tokenizer_config.json
            processor.chat_template = processor.tokenizer.chat_template
        image_token_id = getattr(model.config, "image_token_id", None)
        return self._encoder(processor, control_tokens, image_token_id)

    def _encoder(self, processor: Any, control_tokens: frozenset[str], image_token_id: int | None) -> Encoder:
        return ProcessorEncoder(processor, control_tokens, image_token_id)
