"""An encoder that gives the inputs of the golden vectors, so that the engine is held to them without a tokenizer."""

from collections.abc import Sequence
from typing import Any

import torch
from golden_vectors import GOLDEN, inputs, vectors
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from service.domain.generation import Message
from service.engine.families.family import Encoded, Encoder

NAMES = ("one_image", "text", "two_images")
"""The conversations of `generate_batch.npz`, in its order."""


def plain_tokenizer() -> Any:
    """Every id is a word of its own."""
    vocabulary = {f" t{index}": index for index in range(256)}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(vocabulary, unk_token=" t9")))


def tensors_of(version: str, name: str) -> dict[str, Any]:
    """A case's inputs. 4.0's prompt with two pictures is taken from its batch, the pictures from 2.6."""
    if (GOLDEN / version / f"case_{name}.npz").exists():
        return inputs(vectors(version, f"case_{name}"))
    batch = vectors(version, "generate_batch")
    row = batch["in.order"].tolist().index(name)
    ids = torch.from_numpy(batch["in.input_ids"][row, batch["in.pad_lengths"][row] :])[None].long()
    return {**inputs(vectors("2.6", f"case_{name}")), "input_ids": ids, "attention_mask": torch.ones_like(ids)}


class FeedingEncoder(Encoder):
    """Encodes a message whose text is a case's name; whatever else is a question about one picture."""

    def __init__(self, version: str, changed: dict[str, dict[str, Any]] | None = None) -> None:
        super().__init__(plain_tokenizer(), frozenset(), None)
        self.version = version
        self.changed = changed or {}

    def encode(self, messages: Sequence[Message], pictures: Sequence[Any], *more: Any) -> Encoded:
        text = "".join(part for one in messages for part in one.content if isinstance(part, str))
        tensors = self.changed.get(text) or tensors_of(self.version, text if "?" not in text else "one_image")
        bounds = tensors.get("image_bound", torch.zeros(0, 2))
        return Encoded(tensors, tuple(tensors["input_ids"][0].tolist()), int((bounds[:, 1] - bounds[:, 0]).sum()))

    def _apply(self, *arguments: Any) -> dict[str, Any]:
        raise NotImplementedError
