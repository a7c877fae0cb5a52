"""How pictures reach the language model: cut into parts, encoded once, put in their places.

Knows no cache and no queue. A part is what can be encoded and remembered alone: one slice of a picture where the
vision tower takes slices, all pictures of a prompt otherwise.
"""

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

PIXELS = "pixel_values"


@dataclass(frozen=True, slots=True, eq=False)
class PicturePart:
    """What the vision tower encodes at once.

    Attributes:
        tensors: Arguments of the model's `get_image_features`, on the CPU.
        size: Patches of a slice, or pixel values of all pictures of a prompt, to bound what is encoded together.
        digest: Of the tensors: the same pixels under the same processing have the same.
    """

    tensors: Mapping[str, Any]
    size: int
    digest: bytes = field(default=b"")

    @classmethod
    def of(cls, tensors: Mapping[str, Any], size: int) -> "PicturePart":
        """Make a part and compute its digest."""
        digest = hashlib.blake2b(digest_size=16)
        for name, one in sorted(tensors.items()):
            digest.update(name.encode())
            if isinstance(one, torch.Tensor):
                digest.update(f"{tuple(one.shape)}{one.dtype}".encode())
                digest.update(one.contiguous().view(torch.uint8).numpy().data)
            else:
                digest.update(repr(one).encode())
        return cls(tensors, size, digest.digest())


@dataclass(frozen=True, slots=True, eq=False)
class PromptInputs:
    """How a prompt enters the model.

    Attributes:
        keywords: The model's arguments for the whole prompt, or `inputs_embeds` alone.
        can_chunk: It may be computed a piece at a time: there are only ids, or only embeddings.
    """

    keywords: dict[str, Any]
    can_chunk: bool


class WholePictures:
    """All pictures of a prompt are one part, and the model itself puts the features in their places.

    Attributes:
        can_chunk: A prompt with pictures may be computed a piece at a time, and so behind a remembered beginning.
    """

    can_chunk = False

    def parts(self, model: Any, tensors: Mapping[str, Any]) -> tuple[PicturePart, ...]:
        """Take the vision tensors out of a prompt's; empty if there are none, or if the model takes no features."""
        if PIXELS not in tensors or not _takes_features(model):
            return ()
        taken = {name: tensors[name] for name in self._taken(model) if name in tensors}
        return (PicturePart.of(taken, int(tensors[PIXELS].numel())),)

    def encode(self, model: Any, parts: Sequence[PicturePart], device: torch.device) -> list[Any]:
        """Return the features of each part."""
        return [model.base_model.get_image_features(**_on(one.tensors, device), return_dict=True) for one in parts]

    def inputs(
        self, model: Any, tensors: Mapping[str, Any], features: Sequence[Any], device: torch.device
    ) -> PromptInputs:
        """Return the model's arguments for a prompt whose parts have these features."""
        if not features:
            given = tensors if PIXELS in tensors else {"input_ids": tensors["input_ids"]}
            return PromptInputs(_on(given, device), can_chunk=PIXELS not in tensors)
        taken = self._taken(model)
        rest = {name: one for name, one in tensors.items() if name not in taken}
        return PromptInputs({**_on(rest, device), "mm_encoder_outputs": {"image": features[0]}}, can_chunk=False)

    def spans(
        self, tensors: Mapping[str, Any], prompt_ids: Sequence[int], image_token_id: int | None
    ) -> tuple[tuple[int, int], ...]:
        """Return first place and end of each run of tokens that stand for pictures; one run a part, if all is well."""
        found: list[tuple[int, int]] = []
        for place, one in enumerate(prompt_ids):
            if one == image_token_id:
                if found and found[-1][1] == place:
                    found[-1] = (found[-1][0], place + 1)
                else:
                    found.append((place, place + 1))
        return tuple(found)

    @staticmethod
    def _taken(model: Any) -> frozenset[str]:
        return frozenset(inspect.signature(model.base_model.get_image_features).parameters) - {"kwargs"}


class SlicedPictures(WholePictures):
    """MiniCPM-V: a picture is a thumbnail and slices, each encoded and remembered alone.

    The processor packs the patches of all slices side by side, `(1, channels, patch, patch x patches)`, with the grid
    of each in `target_sizes`.
    """

    can_chunk = True

    def parts(self, model: Any, tensors: Mapping[str, Any]) -> tuple[PicturePart, ...]:
        """Cut the packed patches into slices."""
        if PIXELS not in tensors:
            return ()
        packed, grids = tensors[PIXELS], tensors["target_sizes"]
        patch = packed.shape[2]
        sizes = [int(height * width) for height, width in grids.tolist()]
        pieces = packed.split([size * patch for size in sizes], dim=3)
        return tuple(
            PicturePart.of({PIXELS: piece, "target_sizes": grids[index : index + 1]}, size)
            for index, (piece, size) in enumerate(zip(pieces, sizes, strict=True))
        )

    def encode(self, model: Any, parts: Sequence[PicturePart], device: torch.device) -> list[Any]:
        """Encode slices together; each gets `(tokens, hidden)`."""
        packed = torch.cat([one.tensors[PIXELS] for one in parts], dim=3).to(device)
        grids = torch.cat([one.tensors["target_sizes"] for one in parts]).to(device)
        output = model.get_image_features(packed, grids, return_dict=True)
        return [one.clone() for one in output.pooler_output]  # a view would keep the whole batch in memory

    def inputs(
        self, model: Any, tensors: Mapping[str, Any], features: Sequence[Any], device: torch.device
    ) -> PromptInputs:
        """Embed the ids and put the slices' features in their places, in order.

        Raises:
            ValueError: The places and the features differ in number.
        """
        ids = tensors["input_ids"].to(device)
        if not features:
            return PromptInputs({"input_ids": ids}, can_chunk=True)
        embeds = model.get_input_embeddings()(ids)
        flat = torch.cat(list(features)).to(embeds.dtype)
        places = ids == model.config.image_token_id
        if int(places.sum()) != len(flat):
            raise ValueError(f"the prompt has {int(places.sum())} places for {len(flat)} picture features")
        return PromptInputs({"inputs_embeds": embeds.masked_scatter(places[..., None], flat)}, can_chunk=True)


def feature_bytes(features: Any) -> int:
    """Return the memory of one part's features, whatever holds them."""
    if isinstance(features, torch.Tensor):
        return features.numel() * features.element_size()
    if isinstance(features, Mapping):
        return sum(feature_bytes(one) for one in features.values())
    if isinstance(features, list | tuple):
        return sum(feature_bytes(one) for one in features)
    return 0


def _takes_features(model: Any) -> bool:
    return "mm_encoder_outputs" in inspect.signature(model.forward).parameters


def _on(tensors: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    return {name: one.to(device) if hasattr(one, "to") else one for name, one in tensors.items()}
