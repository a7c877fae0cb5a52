"""GOT-OCR 2.0: reads text in one picture; its processor writes the prompt itself and there is no chat.

Knows only what the model can be asked for: plain or formatted text.
"""

from collections.abc import Sequence
from typing import Any

from PIL.Image import Image

from service.domain.generation import Message, Processing
from service.engine.families.family import Encoder, picture_count
from service.engine.families.image_text import ImageTextFamily, ProcessorEncoder
from service.errors import InvalidField

PLAIN, FORMATTED = ("", "ocr", "ocr:"), ("ocr with format", "ocr with format:")
"""The two prompts of the model's own processor, as a client may write them."""


class GotOcr2Encoder(ProcessorEncoder):
    """Encodes one user turn with one picture."""

    def _apply(self, messages: Sequence[Message], pictures: Sequence[Image], processing: Processing) -> dict[str, Any]:
        text = "".join(part for message in messages for part in message.content if isinstance(part, str))
        wish = text.strip().lower()
        if len(messages) != 1 or picture_count(messages) != 1 or wish not in (*PLAIN, *FORMATTED):
            raise InvalidField(
                "messages: GOT-OCR takes one user turn with one picture and the text 'OCR' or 'OCR with format', "
                f"not {len(messages)} turns, {picture_count(messages)} pictures and {text[:40]!r}"
            )
        with self._lock:
            return dict(self._processor(pictures[0], format=wish in FORMATTED, return_tensors="pt"))


class GotOcr2(ImageTextFamily):
    """`model_type` got_ocr2."""

    name = "got-ocr-2"
    model_types = frozenset({"got_ocr2"})
    probe_text = "OCR"

    def _encoder(self, processor: Any, control_tokens: frozenset[str], image_token_id: int | None) -> Encoder:
        return GotOcr2Encoder(processor, control_tokens, image_token_id)
