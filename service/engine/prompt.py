"""A prompt as the engine computes it: positions, picture parts, and names for its beginnings.

Knows no queue and no slot. Built on the thread that prepares a request; nothing here runs on the device.
"""

import hashlib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from service.engine.families.family import Encoded, Family
from service.engine.families.pictures import PIXELS, PicturePart
from service.engine.loading import View

BLOCK = 64
"""Tokens of a block: beginnings are compared in blocks, and recurrences are computed in as many."""


@dataclass(eq=False)
class Prompt:
    """One request's prompt.

    Attributes:
        view: What answers it.
        tensors: The encoder's tensors, on the CPU.
        parts: Its pictures.
        positions: `(rows, 1, tokens)` int64; one row, or several where the model places pictures in a plane.
        names: Names its beginnings; None if they must not be reused.
    """

    view: View
    tensors: dict[str, Any]
    ids: tuple[int, ...]
    parts: tuple[PicturePart, ...]
    positions: torch.Tensor
    names: "Beginnings | None"

    @property
    def tokens(self) -> int:
        """Length in tokens."""
        return len(self.ids)

    @property
    def offset(self) -> int:
        """How far the positions of what follows run ahead of the number of tokens; behind, where pictures are dense."""
        return int(self.positions[-3:].max()) + 1 - self.tokens

    def places(self, start: int, end: int) -> torch.Tensor:
        """Return the positions of some tokens, `(rows, 1, end - start)`, of an answer's behind the prompt as well."""
        if end <= self.tokens:
            return self.positions[..., start:end]
        counts = torch.arange(start, end)
        places = (counts + self.offset).repeat(len(self.positions), 1, 1)
        places[:-3] = counts  # where there are four, the first counts tokens
        return places

    def forget_inputs(self) -> None:
        """Let go of pixels once the answer is there."""
        self.tensors = {}
        self.parts = ()


class Beginnings:
    """Names every beginning of one prompt by its content: view, ids, places of pictures, and the pictures themselves.

    Args:
        root: Names what else the states depend on: the view.
        codes: `(rows, tokens)` int64, what distinguishes each token; a picture's tokens carry its digest.
    """

    def __init__(self, root: bytes, codes: torch.Tensor) -> None:
        self._root = root
        self._codes = codes
        self._chain: list[bytes] = [root]

    def __len__(self) -> int:
        return int(self._codes.shape[1])

    def name(self, tokens: int) -> bytes:
        """Return the name of the first `tokens` tokens."""
        blocks, rest = divmod(tokens, BLOCK)
        while len(self._chain) <= blocks:
            at = len(self._chain) - 1
            self._chain.append(self._hash(self._chain[-1], at * BLOCK, BLOCK))
        return self._hash(self._chain[blocks], blocks * BLOCK, rest) if rest else self._chain[blocks]

    def followed_by(self, ids: Sequence[int], offset: int) -> "Beginnings":
        """Return the names of the prompt with an answer behind it."""
        first = len(self) + offset
        places = torch.arange(first, first + len(ids))
        more = torch.stack([torch.tensor(ids, dtype=torch.int64), *[places] * (len(self._codes) - 1)])
        longer = Beginnings(self._root, torch.cat([self._codes, more], dim=1))
        longer._chain = self._chain[: len(self) // BLOCK + 1]
        return longer

    def _hash(self, before: bytes, start: int, count: int) -> bytes:
        piece = self._codes[:, start : start + count].contiguous().numpy().tobytes()
        return hashlib.blake2b(before + piece, digest_size=16).digest()


def build_prompt(family: Family, view: View, encoded: Encoded) -> Prompt:
    """Describe an encoded conversation."""
    parts = family.pictures.parts(view.model, encoded.tensors) if family.accepts_pictures else ()
    positions = positions_of(view.model, encoded.tensors)
    spans = family.pictures.spans(encoded.tensors, encoded.prompt_ids, view.encoder.image_token_id) if parts else ()
    codes = _codes(encoded, parts, spans, positions) if family.pictures.can_chunk or not parts else None
    names = Beginnings(view.serial.to_bytes(8, "big"), codes) if codes is not None else None
    return Prompt(view, dict(encoded.tensors), encoded.prompt_ids, parts, positions, names)


def positions_of(model: Any, tensors: dict[str, Any]) -> torch.Tensor:
    """Return a prompt's positions as `(rows, 1, tokens)`, as the model's own `generate` computes them.

    The method is private in transformers 5.23, and the only one that all families share; a test notices its end.
    """
    positions: torch.Tensor = model._prepare_position_ids_for_generation(tensors["input_ids"], dict(tensors))
    return positions if positions.dim() == 3 else positions[None]


def takes_positions(model: Any) -> bool:
    """Say whether the model's forward takes `position_ids`."""
    parameters = inspect.signature(model.forward).parameters
    return "position_ids" in parameters or "kwargs" in parameters


def _codes(
    encoded: Encoded, parts: Sequence[PicturePart], spans: Sequence[tuple[int, int]], positions: torch.Tensor
) -> torch.Tensor | None:
    """Return what distinguishes each token, or None where a picture's tokens cannot be told apart: no span a part."""
    ids = torch.tensor(encoded.prompt_ids, dtype=torch.int64)
    places = positions[-3:, 0].cpu()
    places = places.expand(3, -1) if places.shape[0] == 1 else places
    if not parts:
        return torch.cat([ids[None], places]) if PIXELS not in encoded.tensors else None
    if len(spans) != len(parts):
        return None
    for (start, end), part in zip(spans, parts, strict=True):
        ids[start:end] = int.from_bytes(part.digest[:7], "big")
    return torch.cat([ids[None], places])
