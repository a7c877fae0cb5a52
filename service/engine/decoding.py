"""Decodes: one token for every running sequence at once, each row with its own adapter and its own rules.

Knows no queue and no text. Rows are dense: the last one takes the place of one that leaves.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import Cache

from service.domain.generation import Sampling
from service.engine.loading import View
from service.engine.prompt import Prompt, takes_positions
from service.engine.rowwise import RowWise
from service.engine.sampling import Chosen, Sampler
from service.engine.slots import BatchedSlots, Slots

BASE_ROW = 0


@dataclass(frozen=True, slots=True)
class Lane:
    """Rows that can share a forward pass.

    Attributes:
        model: Computes them.
        is_shared: Whether it is the tree in which each row has its own adapter.
    """

    model: Any
    is_shared: bool


@dataclass(slots=True)
class _Row:
    """One running sequence: its lane, its adapter's index there, and how many tokens its slot holds."""

    lane: Lane
    adapter: int
    tokens: int


class Decoder:
    """The running rows of one model.

    Args:
        views: The adapters' own views, by id.
        rowwise: The tree of all adapters that can share a batch.
        slots: Where the rows keep their states.
        vocabulary: Width of the logits.
        device: Where the model is.
    """

    def __init__(
        self,
        views: Mapping[str, View],
        rowwise: RowWise,
        slots: Slots,
        vocabulary: int,
        device: torch.device,
    ) -> None:
        self._rowwise = rowwise
        self._slots = slots
        self._device = device
        self._is_batched = isinstance(slots, BatchedSlots)
        shared = Lane(rowwise.model, is_shared=True)
        self._lanes: dict[str | None, tuple[Lane, int]] = {None: (shared, BASE_ROW)}
        for adapter_id, view in views.items():
            if adapter_id in rowwise.batched:
                self._lanes[adapter_id] = (shared, rowwise.batched[adapter_id])
            else:
                self._lanes[adapter_id] = (Lane(view.model, is_shared=False), BASE_ROW)
        self._rows: list[_Row] = []
        self._sampler = Sampler(slots.num_slots + 1, vocabulary, device)
        self._tokens = torch.zeros(slots.num_slots, dtype=torch.int64, device=device)
        self._offsets = torch.zeros(slots.num_slots, dtype=torch.int64, device=device)
        self._position_rows = 1
        self._takes_positions = takes_positions(rowwise.model)

    @property
    def tree(self) -> Any:
        """The model in which each row has its own adapter."""
        return self._rowwise.model

    def __len__(self) -> int:
        return len(self._rows)

    def first(self, prompt: Prompt, logits: torch.Tensor, sampling: Sampling, stop_ids: tuple[int, ...]) -> Chosen:
        """Choose the token behind a prompt; `insert` may follow at once, or nothing."""
        row = len(self._rows)
        self._sampler.set(row, sampling, prompt.ids, stop_ids)
        choice = self._sampler.choose(logits, first_row=row)
        if row < self._slots.num_slots:
            self._tokens[row : row + 1] = choice.token_ids
        return choice.fetch()[0]

    def insert(self, prompt: Prompt, cache: Cache, adapter_id: str | None, need: int) -> None:
        """Let a sequence run in the next row; `first` has chosen its token."""
        row = len(self._rows)
        lane, adapter = self._lanes[adapter_id]
        self._slots.insert(row, cache, prompt.tokens, need)
        self._slots.lengths[row] = prompt.tokens
        self._offsets[row] = prompt.offset
        self._position_rows = max(self._position_rows, len(prompt.positions))
        self._rows.append(_Row(lane, adapter, prompt.tokens))

    def remove(self, row: int, *, is_clean: bool = True) -> None:
        """Free a row; the last one moves into it.

        Args:
            row: Which.
            is_clean: Its states are known to be finite.
        """
        last = len(self._rows) - 1
        if not is_clean:
            self._slots.scrub(row)
        if row != last:
            self._slots.move(last, row)
            self._sampler.move(last, row)
            for one in (self._tokens, self._offsets, self._slots.lengths):
                one[row] = one[last]
            self._rows[row] = self._rows[last]
            if not is_clean:  # the last one may have to go for the same reason
                self._slots.scrub(last)
        self._slots.pop()
        self._rows.pop()

    def extract(self, row: int) -> Cache:
        """Copy out what a row has computed; its last chosen token is not in it."""
        return self._slots.extract(row, self._rows[row].tokens)

    def runs(self) -> Iterator[tuple[int, int]]:
        """Iterate over (first row, end) of rows that share a forward pass."""
        first = 0
        for row in range(1, len(self._rows) + 1):
            is_end = row == len(self._rows) or not self._is_batched or self._rows[row].lane != self._rows[first].lane
            if is_end:
                yield first, row
                first = row

    def step(self, first: int, end: int) -> list[Chosen]:
        """Decode one token for rows of one run.

        Returns:
            What each row chose, with one transfer from the device for all.
        """
        rows = self._rows[first:end]
        with torch.inference_mode():
            output = rows[0].lane.model(**self._keywords(first, end))
            choice = self._sampler.choose(output.logits[:, -1], first_row=first)
            self._tokens[first:end] = choice.token_ids
            self._slots.lengths[first:end] += 1
        for row in rows:
            row.tokens += 1
        return choice.fetch()

    def _keywords(self, first: int, end: int) -> dict[str, Any]:
        rows = self._rows[first:end]
        longest = max(row.tokens for row in rows)
        if rows[0].lane.is_shared:
            self._rowwise.routing.set([row.adapter for row in rows])
        keywords: dict[str, Any] = {
            "input_ids": self._tokens[first:end, None],
            "past_key_values": self._slots.select(first, end - first, longest),
            "use_cache": True,
        }
        if self._takes_positions:
            keywords["position_ids"] = self._positions(first, end)
        if isinstance(self._slots, BatchedSlots):
            keywords["attention_mask"] = self._mask(self._slots, first, end, longest)
        return keywords

    def _positions(self, first: int, end: int) -> torch.Tensor:
        """Return the positions of the tokens to come, `(rows, 1)` or `(3 or 4, rows, 1)`.

        Where there are four, the first counts tokens; the others run on from the prompt's pictures.
        """
        counts = self._slots.lengths[first:end, None]
        if self._position_rows == 1:
            return counts
        places = (counts + self._offsets[first:end, None]).expand(3, -1, -1)
        return places if self._position_rows == 3 else torch.cat([counts[None], places])

    def _mask(self, slots: BatchedSlots, first: int, end: int, longest: int) -> Any:
        """Return which places of its row each token sees; None where all see all."""
        width = slots.width(longest)
        mask: torch.Tensor | None = None
        if any(row.tokens + 1 != width for row in self._rows[first:end]):
            seen = torch.arange(width, device=self._device) <= slots.lengths[first:end, None]
            mask = _fitting(self._rows[first].lane.model, seen[:, None, None])
        return {"full_attention": mask, "linear_attention": None} if slots.has_states else mask


def _fitting(model: Any, seen: torch.Tensor) -> torch.Tensor:
    """Return a mask `(rows, 1, 1, width)` as the model's attention takes it."""
    attention = model.config.get_text_config()._attn_implementation
    if attention == "sdpa":
        return seen
    if attention.startswith("flash"):
        return seen[:, 0, 0]
    return torch.zeros(seen.shape, dtype=model.dtype, device=seen.device).masked_fill(
        ~seen, torch.finfo(model.dtype).min
    )
