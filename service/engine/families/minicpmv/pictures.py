"""How pictures reach MiniCPM-V 2.6, 4.0 and 4.5: by the bounds that the encoder states, whatever ids stand there.

Knows no cache and no queue. A part is a slice, or a pack of video frames, whose frames share one block of features.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from service.domain.minicpmv import STILL
from service.engine.families.pictures import PIXELS, PicturePart, PromptInputs, SlicedPictures

SIZES, BOUNDS, MOMENTS = "target_sizes", "image_bound", "temporal_ids"
ALONE = [STILL]
"""The times of a slice that is no frame."""


class BoundPictures(SlicedPictures):
    """A prompt's `image_bound`, `(blocks, 2)`, says where each part's features go."""

    def parts(self, model: Any, tensors: Mapping[str, Any]) -> tuple[PicturePart, ...]:
        """Cut the packed patches into slices and packs.

        Raises:
            ValueError: The bounds, groups and slices differ in number.
        """
        if PIXELS not in tensors:
            return ()
        packed, grids = tensors[PIXELS], tensors[SIZES]
        groups: Sequence[Sequence[int]] = tensors.get(MOMENTS) or [ALONE] * len(grids)
        counts = [len(group) for group in groups]
        if sum(counts) != len(grids) or len(groups) != len(tensors[BOUNDS]):
            raise ValueError(
                f"the prompt has {len(tensors[BOUNDS])} blocks for {len(groups)} parts of {sum(counts)} slices, "
                f"and pixels of {len(grids)}"
            )
        sizes = [int(one.prod(dim=1).sum()) for one in grids.split(counts)]
        pieces = packed.split([size * packed.shape[2] for size in sizes], dim=3)
        return tuple(
            PicturePart.of(_of_part(piece, own, list(group)), size)
            for piece, own, group, size in zip(pieces, grids.split(counts), groups, sizes, strict=True)
        )

    def encode(self, model: Any, parts: Sequence[PicturePart], device: torch.device) -> list[Any]:
        """Encode parts together; each gets `(query_num, hidden)`."""
        packed = torch.cat([one.tensors[PIXELS] for one in parts], dim=3).to(device)
        grids = torch.cat([one.tensors[SIZES] for one in parts])  # read on the CPU
        groups = [one.tensors.get(MOMENTS, ALONE) for one in parts]
        moments = None if all(group == ALONE for group in groups) else groups
        output = model.get_image_features(packed, grids, moments)
        return [one.clone() for one in output.pooler_output]  # a view would keep the whole batch in memory

    def inputs(
        self, model: Any, tensors: Mapping[str, Any], features: Sequence[Any], device: torch.device
    ) -> PromptInputs:
        """Embed the ids and put the parts' features within their bounds.

        Raises:
            ValueError: The bounds and the features differ in number or length.
        """
        ids = tensors["input_ids"].to(device)
        if not features:
            return PromptInputs({"input_ids": ids}, can_chunk=True)
        return PromptInputs({"inputs_embeds": model.embed(ids, features, tensors[BOUNDS])}, can_chunk=True)

    def spans(
        self, tensors: Mapping[str, Any], prompt_ids: Sequence[int], image_token_id: int | None
    ) -> tuple[tuple[int, int], ...]:
        """Return the bounds."""
        if PIXELS not in tensors:
            return ()
        return tuple((int(start), int(end)) for start, end in tensors[BOUNDS].tolist())


def _of_part(pixels: torch.Tensor, grids: torch.Tensor, moments: list[int]) -> dict[str, Any]:
    return {PIXELS: pixels, SIZES: grids} | ({} if moments == ALONE else {MOMENTS: moments})
