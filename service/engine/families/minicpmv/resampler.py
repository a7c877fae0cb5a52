"""The resampler: learned queries turn a slice's patches, or those of a pack of video frames, into a block of features.

Knows patches and grids; knows no prompt. Source: the tensors of the official checkpoints and vectors that their code
gave; the layout of the weights is that of `torch.nn.MultiheadAttention`.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from service.domain.minicpmv import HEAD_SIZE, STILL
from service.engine.families.minicpmv.positions import Grid, grid_vectors, time_vectors

EPSILON = 1e-6
TOGETHER = 16
"""Groups that attend at once; has no meaning for the numbers."""


class Resampler(nn.Module):
    """Cross attention from learned queries to patches.

    Args:
        queries: Features of a block.
        hidden: Their size, the language model's.
        vision: Size of the patches that the tower gives.
    """

    def __init__(self, queries: int, hidden: int, vision: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.empty(queries, hidden))
        self.kv_proj = nn.Linear(vision, hidden, bias=False) if vision != hidden else nn.Identity()
        self.attn = nn.MultiheadAttention(hidden, hidden // HEAD_SIZE, batch_first=True)
        self.ln_q = nn.LayerNorm(hidden, eps=EPSILON)
        self.ln_kv = nn.LayerNorm(hidden, eps=EPSILON)
        self.ln_post = nn.LayerNorm(hidden, eps=EPSILON)
        self.proj = nn.Parameter(torch.empty(hidden, hidden))

    def forward(
        self, patches: torch.Tensor, grids: Sequence[Grid], groups: Sequence[Sequence[int]] | None = None
    ) -> torch.Tensor:
        """Return a block for each group.

        Args:
            patches: `(patches of all slices, vision)`, slice after slice.
            grids: Of each slice.
            groups: The moments of each group's slices, in their order; None makes each slice a group without moment.

        Returns:
            `(groups, queries, hidden)`.
        """
        groups = [[STILL]] * len(grids) if groups is None else groups
        counts = [height * width for height, width in grids]
        lengths = _lengths(counts, groups)
        values = self.ln_kv(self.kv_proj(patches))
        keys = values + self._places(grids, [one for group in groups for one in group], values)
        packs = list(zip(keys.split(lengths), values.split(lengths), strict=True))
        blocks = [self._attend(packs[start : start + TOGETHER]) for start in range(0, len(packs), TOGETHER)]
        # A plain product: the matrix is stored as it multiplies, unlike a linear layer's.
        projected: torch.Tensor = self.ln_post(torch.cat(blocks)) @ self.proj
        return projected

    def _places(self, grids: Sequence[Grid], moments: Sequence[int], like: torch.Tensor) -> torch.Tensor:
        """Return what says where and when each patch is, `(patches, hidden)`, in the type of the patches."""
        vectors = torch.cat([grid_vectors(grid, like) for grid in grids])
        if all(one == STILL for one in moments):
            return vectors
        times = time_vectors([max(one, 0) for one in moments], like.shape[-1]).to(like)
        times[[one == STILL for one in moments]] = 0
        counts = torch.tensor([height * width for height, width in grids], device=like.device)
        return vectors + times.repeat_interleave(counts, dim=0)

    def _attend(self, packs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
        """Attend to keys and values of some groups, `(patches, hidden)` each; padding is hidden from the queries."""
        keys, values = (pad_sequence(list(one), batch_first=True) for one in zip(*packs, strict=True))
        lengths = torch.tensor([len(one) for one, _ in packs], device=keys.device)
        hidden = torch.arange(keys.shape[1], device=keys.device) >= lengths[:, None]
        queries = self.ln_q(self.query).expand(len(packs), -1, -1)
        is_padded = len({len(one) for one, _ in packs}) > 1
        attended: torch.Tensor = self.attn(
            queries, keys, values, key_padding_mask=hidden if is_padded else None, need_weights=False
        )[0]
        return attended


def _lengths(counts: Sequence[int], groups: Sequence[Sequence[int]]) -> list[int]:
    """Return the patches of each group.

    Raises:
        ValueError: The groups hold more or fewer slices than there are, or none.
    """
    sizes = [len(group) for group in groups]
    if sum(sizes) != len(counts) or 0 in sizes:
        raise ValueError(
            f"temporal_ids: {len(groups)} groups hold {sum(sizes)} slices, there are {len(counts)}; "
            "each slice needs one number, -1 if it is no frame, and no group may be empty"
        )
    remaining = iter(counts)
    return [sum(next(remaining) for _ in range(size)) for size in sizes]
