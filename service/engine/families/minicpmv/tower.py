"""The vision tower: transformers' SigLIP over slices of any shape, packed side by side.

Knows pixels and grids; knows no language model.
"""

from collections.abc import Sequence

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import SiglipVisionConfig, SiglipVisionModel
from transformers.masking_utils import create_bidirectional_mask

from service.engine.families.minicpmv.positions import Grid, table_rows


class Tower(SiglipVisionModel):  # type: ignore[misc]  # transformers has no types
    """SigLIP without a pooling head, whose tensors have the official names.

    Slices never see each other. They are sorted by size and computed some at once, so that little is padded.

    Args:
        config: transformers' own; `vision_use_head` is false.
        together: Slices at once; has no meaning for the numbers.
    """

    def __init__(self, config: SiglipVisionConfig, together: int) -> None:
        super().__init__(config)
        self.together = together
        self.side = config.image_size // config.patch_size

    def forward(self, pixel_values: torch.Tensor, grids: Sequence[Grid]) -> torch.Tensor:
        """Return the features of all patches, `(patches, hidden)`, slice after slice.

        Args:
            pixel_values: `(1, channels, patch, patch x patches of all slices)`.
            grids: Of each slice.

        Raises:
            ValueError: The grids have more or fewer patches than the pixels.
        """
        counts = [height * width for height, width in grids]
        patch = self.config.patch_size
        if pixel_values.shape[0] != 1 or pixel_values.shape[2:] != (patch, patch * sum(counts)):
            raise ValueError(
                f"pixel_values has the shape {tuple(pixel_values.shape)}, but the {len(counts)} slices of target_sizes "
                f"need (1, {pixel_values.shape[1]}, {patch}, {patch * sum(counts)})"
            )
        embed = self.embeddings.patch_embedding
        embedded = embed(pixel_values.to(embed.weight.dtype)).flatten(2)[0].T
        places = table_rows(grids, self.side).to(embedded.device)
        pieces = (embedded + self.embeddings.position_embedding(places)).split(counts)
        order = sorted(range(len(pieces)), key=lambda index: counts[index])
        done: dict[int, torch.Tensor] = {}
        for start in range(0, len(order), self.together):
            some = order[start : start + self.together]
            done.update(zip(some, self._encode([pieces[index] for index in some]), strict=True))
        return torch.cat([done[index] for index in range(len(pieces))])

    def _encode(self, pieces: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Compute some slices, `(patches, hidden)` each, as one batch."""
        hidden = pad_sequence(list(pieces), batch_first=True)
        lengths = torch.tensor([len(one) for one in pieces], device=hidden.device)
        mask = None
        if len({len(one) for one in pieces}) > 1:
            # transformers turns these two dimensions into what its attention takes: a boolean mask of four dimensions
            # would be added to the scores as 0 and 1 by `eager`, and a kernel of flash attention takes none.
            is_patch = torch.arange(hidden.shape[1], device=hidden.device) < lengths[:, None]
            mask = create_bidirectional_mask(config=self.config, inputs_embeds=hidden, attention_mask=is_patch)
        output = self.post_layernorm(self.encoder(inputs_embeds=hidden, attention_mask=mask).last_hidden_state)
        return [one[: len(piece)] for one, piece in zip(output, pieces, strict=True)]
