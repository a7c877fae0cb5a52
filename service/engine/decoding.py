"""Decodes: one token for every running sequence at once, each row with its own adapter and its own rules.

Knows no queue and no text. Rows are dense: the last one takes the place of one that leaves.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from transformers import Cache

from service.domain.generation import Sampling
from service.engine.loading import View
from service.engine.probing import relative_difference
from service.engine.prompt import Prompt, takes_positions
from service.engine.recorded import Recorder, Recordings
from service.engine.rowwise import RowWise
from service.engine.sampling import Chosen, Sampler
from service.engine.slots import BatchedSlots, Slots

BASE_ROW = 0
ALIKE = 0.05
"""Share of the largest logit by which a replayed step may differ from a computed one, whose batch is another."""
NARROWEST, WIDER = 256, 4
"""Places of a row that a recorded step reads, and how many times as many the next recording of it reads."""


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
        recorder: Records steps in which all rows share a forward pass; None to compute every step.
    """

    def __init__(
        self,
        views: Mapping[str, View],
        rowwise: RowWise,
        slots: Slots,
        vocabulary: int,
        device: torch.device,
        recorder: Recorder | None = None,
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
        attention = rowwise.model.config.get_text_config()._attn_implementation
        is_steady = self._is_batched and not attention.startswith("flash")  # whose kernels take their lengths by value
        self.recordings = Recordings(recorder) if recorder and is_steady else None

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

    def resume(
        self, prompt: Prompt, generated_ids: Sequence[int], sampling: Sampling, stop_ids: tuple[int, ...]
    ) -> None:
        """Go on behind the last token of an answer; `insert` may follow at once, or nothing."""
        row = len(self._rows)
        self._sampler.set(row, sampling, prompt.ids, stop_ids)
        self._sampler.resume(row, generated_ids)
        self._tokens[row] = generated_ids[-1]

    def insert(self, prompt: Prompt, cache: Cache, adapter_id: str | None, need: int, answered: int = 0) -> None:
        """Let a sequence run in the next row; `first` has chosen its token, or `resume` has taken it.

        Args:
            prompt: Its prompt.
            cache: What it and the tokens behind it became.
            adapter_id: Who answers.
            need: Tokens of prompt and longest answer together.
            answered: Tokens behind the prompt in the cache.
        """
        row, tokens = len(self._rows), prompt.tokens + answered
        lane, adapter = self._lanes[adapter_id]
        self._slots.insert(row, cache, tokens, need)
        self._slots.lengths[row] = tokens
        self._offsets[row] = prompt.offset
        self._position_rows = max(self._position_rows, len(prompt.positions))
        self._rows.append(_Row(lane, adapter, tokens))

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
        self._slots.lengths[last] = 0  # a step that is wider than the rows writes its place, too

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
        with torch.inference_mode():
            choice = self._sampler.choose(self._logits(first, end), first_row=first)
            self._tokens[first:end] = choice.token_ids
            self._slots.lengths[first:end] += 1
        for row in self._rows[first:end]:
            row.tokens += 1
        return choice.fetch()

    @torch.inference_mode()
    def prove(self, prompt: Prompt, cache: Cache) -> None:
        """Hold recorded steps to computed ones, before any sequence runs; if they differ, nothing is recorded later.

        Args:
            prompt: Of the base.
            cache: What it becomes.
        """
        recordings, need = self.recordings, prompt.tokens + 2
        if recordings is None or not self._slots.fits([need]):
            return
        for adapter in (BASE_ROW, *sorted(set(self._rowwise.batched.values()) - self._rowwise.apart)):
            computed = self._two_steps(prompt, cache, adapter, partial(self._step, 0, 1))
            for _ in range(2):  # met first, recorded and replayed; then replayed alone
                found = self._two_steps(prompt, cache, adapter, partial(self._whole_step, 1))
                for difference in map(relative_difference, found, computed):
                    if not difference <= ALIKE:
                        recordings.give_up(f"a replayed step's logits differ by {difference:.2g} of the largest one")
                        return

    def _two_steps(
        self, prompt: Prompt, cache: Cache, adapter: int, step: Callable[[], torch.Tensor]
    ) -> list[torch.Tensor]:
        """Let a sequence run for two steps: of another token at another place, or a replay need not read either."""
        self.insert(prompt, cache, None, prompt.tokens + 2)
        self._rows[0].adapter = adapter
        logits = []
        for token_id in (prompt.ids[-1], prompt.ids[0]):
            self._tokens[:1] = token_id
            logits.append(step().float().clone())
            self._slots.lengths[:1] += 1
            self._rows[0].tokens += 1
        self.remove(0)
        return logits

    def _logits(self, first: int, end: int) -> torch.Tensor:
        """Return the logits `(rows, vocabulary)` of the tokens to come."""
        rows = self._rows[first:end]
        is_whole = first == 0 and end == len(self._rows) and rows[0].lane.is_shared
        is_replayed = self.recordings is not None and self.recordings.are_on and is_whole
        if is_replayed and self._rowwise.apart.isdisjoint(row.adapter for row in rows):
            return self._whole_step(end)
        return self._step(first, end)

    def _step(self, first: int, end: int) -> torch.Tensor:
        """Compute some rows, no wider than their longest."""
        rows = self._rows[first:end]
        longest = max(row.tokens for row in rows)
        if rows[0].lane.is_shared:
            self._rowwise.routing.set([row.adapter for row in rows])
        mask = None
        if isinstance(self._slots, BatchedSlots) and any(row.tokens + 1 != self._slots.width(longest) for row in rows):
            mask = self._mask(self._slots, first, end, longest)
        return self._forward(rows[0].lane.model, first, end, longest, mask)

    def _whole_step(self, count: int) -> torch.Tensor:
        """Compute all rows, or replay that, as wide and as many as few recordings allow.

        Not as wide as the slots are cut: one client that asks for long answers would let all steps read that far.
        """
        slots, recordings = self._slots, self.recordings
        assert isinstance(slots, BatchedSlots) and recordings is not None  # noqa: S101, PT018 - who calls knows
        wide = min(1 << (count - 1).bit_length(), slots.num_cut)
        adapters = [row.adapter for row in self._rows]
        among = self._rowwise.batched.values() if any(adapters) else ()  # of all, so that no factor is gathered
        self._rowwise.routing.set([*adapters, *[BASE_ROW] * (wide - count)], among)
        longest = min(_roomy(max(row.tokens for row in self._rows) + 1), slots.capacity) - 1

        def compute() -> torch.Tensor:
            return self._forward(self.tree, 0, wide, longest, self._mask(slots, 0, wide, longest))

        shape = (wide, slots.capacity, longest, self._position_rows, any(adapters))
        return recordings.run(shape, self._rowwise.routing.mix, compute)[:count]

    def _forward(self, model: Any, first: int, end: int, longest: int, mask: torch.Tensor | None) -> torch.Tensor:
        keywords: dict[str, Any] = {
            "input_ids": self._tokens[first:end, None],
            "past_key_values": self._slots.select(first, end - first, longest),
            "use_cache": True,
        }
        if self._takes_positions:
            keywords["position_ids"] = self._positions(first, end)
        if isinstance(self._slots, BatchedSlots):
            states = {"full_attention": mask, "linear_attention": None}
            keywords["attention_mask"] = states if self._slots.has_states else mask
        logits: torch.Tensor = model(**keywords).logits[:, -1]
        return logits

    def _positions(self, first: int, end: int) -> torch.Tensor:
        """Return the positions of the tokens to come, `(rows, 1)` or `(3 or 4, rows, 1)`.

        Where there are four, the first counts tokens; the others run on from the prompt's pictures.
        """
        counts = self._slots.lengths[first:end, None]
        if self._position_rows == 1:
            return counts
        places = (counts + self._offsets[first:end, None]).expand(3, -1, -1)
        return places if self._position_rows == 3 else torch.cat([counts[None], places])

    def _mask(self, slots: BatchedSlots, first: int, end: int, longest: int) -> torch.Tensor:
        """Return which places of its row each token sees."""
        seen = torch.arange(slots.width(longest), device=self._device) <= slots.lengths[first:end, None]
        return _fitting(self._rows[first].lane.model, seen[:, None, None])


def _roomy(places: int) -> int:
    """Return how many places to read where so many are needed."""
    width = NARROWEST
    while width < places:
        width *= WIDER
    return width


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
