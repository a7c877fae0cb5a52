"""Chooses the next token of every row of a batch, each by its own rules.

Knows no model and no queue. A row's tokens depend on its own logits, rules and seed: not on its neighbours, its place,
or what ran before.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from service.domain.generation import Sampling
from service.engine.distribution import (
    draw,
    keep_min_p,
    keep_nucleus,
    keep_top_k,
    list_nucleus,
    penalise_counts,
    penalise_repetition,
    uniforms,
)
from service.engine.sampling_plan import Drawing, Plan, Row, plan_of, upload

MAX_COUNT = torch.iinfo(torch.int16).max


@dataclass(frozen=True, slots=True)
class Chosen:
    """One row's token.

    Attributes:
        token_id: The token; any if the row is not finite.
        logprob: Its log-probability after penalties and `min_new_tokens`, and before temperature, top-k, top-p and
            min-p; None if the row does not ask for it.
        is_finite: False if the logits had NaN or +inf, or nothing that could be chosen.
    """

    token_id: int
    logprob: float | None
    is_finite: bool


@dataclass(frozen=True, slots=True)
class Choice:
    """One step's tokens.

    Attributes:
        token_ids: `(B,)` int64 on the device, the next step's input without a round trip.
    """

    token_ids: torch.Tensor
    _facts: torch.Tensor = field(repr=False)
    """`(2, B)` float64: is finite, logprob."""
    _wants_logprob: tuple[bool, ...] = field(repr=False)

    def fetch(self) -> list[Chosen]:
        """Wait for the device and return every row's token; one transfer."""
        ids, finite, logprobs = torch.cat([self.token_ids.double().unsqueeze(0), self._facts]).tolist()
        return [
            Chosen(int(token_id), logprob if is_wanted else None, bool(is_finite))
            for token_id, is_finite, logprob, is_wanted in zip(ids, finite, logprobs, self._wants_logprob, strict=True)
        ]


class Sampler:
    """Chooses the next token of every row of a batch, each by its own rules.

    Not thread-safe: belongs to the thread that owns the device. Working out what a batch needs takes a loop over its
    rows; that happens only after `set` or `move`, when another range of rows is chosen for, or `min_new_tokens` ends.

    Args:
        num_rows: Most rows of a batch.
        vocabulary: Logits per row.
        device: Where the logits are.
    """

    def __init__(self, num_rows: int, vocabulary: int, device: torch.device) -> None:
        self._vocabulary = vocabulary
        self._device = device
        self._rows = [Row() for _ in range(num_rows)]
        self._num_generated = np.zeros(num_rows, dtype=np.int64)
        self._is_seen = _Table(num_rows, vocabulary, torch.bool, device)
        self._counts = _Table(num_rows, vocabulary, torch.int16, device)
        self._plan: Plan | None = None

    @torch.inference_mode()
    def set(self, row: int, sampling: Sampling, prompt_ids: Sequence[int], stop_ids: Sequence[int]) -> None:
        """Give a row to a sequence, and forget what was there.

        Args:
            row: Its place.
            sampling: Its rules; without a seed it gets a random one.
            prompt_ids: What `repetition_penalty` looks at besides the answer; ids beyond the vocabulary are ignored.
            stop_ids: What cannot be chosen before `min_new_tokens`.
        """
        seed = secrets.randbits(63) if sampling.seed is None else sampling.seed
        self._rows[row] = Row(sampling, seed, tuple(one for one in stop_ids if 0 <= one < self._vocabulary))
        self._num_generated[row] = 0
        self._plan = None
        if self._rows[row].needs_seen:
            self._is_seen.clear(row)
            prompt = np.unique(np.asarray(prompt_ids, dtype=np.int64))
            known = prompt[(prompt >= 0) & (prompt < self._vocabulary)]
            self._is_seen.tensor[row].index_fill_(0, upload(known, torch.int64, self._device), True)
        if self._rows[row].needs_counts:
            self._counts.clear(row)

    @torch.inference_mode()
    def resume(self, row: int, generated_ids: Sequence[int]) -> None:
        """Go on with an answer in a row that was just set; without a seed of its own it draws with another one.

        Args:
            row: Its place.
            generated_ids: The answer so far.
        """
        self._num_generated[row] = len(generated_ids)
        self._plan = None
        ids, counts = np.unique(np.asarray(generated_ids, dtype=np.int64), return_counts=True)
        there = upload(ids, torch.int64, self._device)
        if self._rows[row].needs_seen:
            self._is_seen.tensor[row].index_fill_(0, there, True)
        if self._rows[row].needs_counts:
            some = upload(counts.clip(max=MAX_COUNT), torch.int16, self._device)
            self._counts.tensor[row].index_copy_(0, there, some)

    @torch.inference_mode()
    def move(self, source: int, target: int) -> None:
        """Take a sequence to another row; nobody has its old one then."""
        if source == target:
            return
        self._rows[target], self._rows[source] = self._rows[source], Row()
        self._num_generated[target] = self._num_generated[source]
        self._plan = None
        if self._rows[target].needs_seen:
            self._is_seen.copy(source, target)
        if self._rows[target].needs_counts:
            self._counts.copy(source, target)

    @torch.inference_mode()
    def choose(self, logits: torch.Tensor, first_row: int = 0) -> Choice:
        """Choose a token for every row, and note that it was generated.

        Args:
            logits: `(B, vocabulary)` of any float dtype, of the rows from `first_row` on; not changed.
            first_row: The row of `logits[0]`.
        """
        plan = self._plan_for(first_row, logits.shape[0])
        scores = self._penalised(logits, plan)
        best, token_ids = scores.max(dim=1)  # NaN is its own maximum, and of equals the first is taken
        is_finite = best.isfinite()
        if scores is not logits:
            is_finite &= logits.amax(dim=1).isfinite()  # a penalty may have hidden it
        if plan.drawing is not None:
            token_ids = _with_drawn(token_ids, scores, plan.drawing)
        logprobs = _logprobs(scores, token_ids, plan.asking)
        self._advance(plan, token_ids)
        return Choice(token_ids, torch.stack([is_finite.double(), logprobs]), plan.wants_logprob)

    def _penalised(self, logits: torch.Tensor, plan: Plan) -> torch.Tensor:
        if plan.repetition is None and plan.counting is None and plan.banned is None:
            return logits
        scores = logits.to(torch.float32, copy=True)
        if (one := plan.repetition) is not None:
            seen = self._is_seen.tensor.index_select(0, one.rows)
            some = penalise_repetition(_select(scores, one.places), seen, one.rules[0])
            scores = _put_back(scores, one.places, some)
        if (one := plan.counting) is not None:
            counts = self._counts.tensor.index_select(0, one.rows)
            some = penalise_counts(_select(scores, one.places), counts, *one.rules)
            scores = _put_back(scores, one.places, some)
        if plan.banned is not None:
            scores.index_put_(plan.banned, scores.new_full((1,), -torch.inf))  # a number would wait for the device
        return scores

    def _advance(self, plan: Plan, token_ids: torch.Tensor) -> None:
        self._num_generated[plan.first_row : plan.first_row + len(plan.wants_logprob)] += 1
        if plan.drawing is not None:
            plan.drawing.steps.add_(1)
        if (one := plan.repetition) is not None:
            where = one.rows, _select(token_ids, one.places)
            self._is_seen.tensor.index_put_(where, torch.ones_like(where[0], dtype=torch.bool))
        if (one := plan.counting) is not None:
            where = one.rows, _select(token_ids, one.places)
            counts = self._counts.tensor[where]
            self._counts.tensor.index_put_(where, counts + (counts < MAX_COUNT))
        plan.steps_left -= 1
        if plan.steps_left == 0:
            self._plan = None

    def _plan_for(self, first_row: int, num_rows: int) -> Plan:
        plan = self._plan
        if plan is None or plan.first_row != first_row or len(plan.wants_logprob) != num_rows:
            there = slice(first_row, first_row + num_rows)
            generated = self._num_generated[there].tolist()
            plan = self._plan = plan_of(self._rows[there], first_row, generated, self._vocabulary, self._device)
        return plan


class _Table:
    """What is known of every token in every row `(num_rows, vocabulary)`; takes memory from its first use on."""

    def __init__(self, num_rows: int, vocabulary: int, dtype: torch.dtype, device: torch.device) -> None:
        self._shape = num_rows, vocabulary
        self._dtype = dtype
        self._device = device
        self._tensor: torch.Tensor | None = None

    @property
    def tensor(self) -> torch.Tensor:
        if self._tensor is None:
            self._tensor = torch.zeros(self._shape, dtype=self._dtype, device=self._device)
        return self._tensor

    def clear(self, row: int) -> None:
        self.tensor[row].zero_()

    def copy(self, source: int, target: int) -> None:
        self.tensor[target].copy_(self.tensor[source])


def _with_drawn(token_ids: torch.Tensor, scores: torch.Tensor, drawing: Drawing) -> torch.Tensor:
    """Return the token ids `(B,)` with drawn ones where the drawn rows are."""
    drawn_scores = _select(scores, drawing.places).float() / drawing.temperature
    drawn = draw(narrowed(drawn_scores, drawing), uniforms(drawing.keys, drawing.steps))
    return drawn if drawing.places is None else token_ids.index_copy(0, drawing.places, drawn)


def narrowed(scores: torch.Tensor, drawing: Drawing) -> torch.Tensor:
    """Return what weight every token of the drawn rows has, 0 for those that are left out.

    Args:
        scores: `(R, V)` float32 after temperature; may be changed.
        drawing: The rules.
    """
    if (one := drawing.top_k) is not None:
        kept, listed = keep_top_k(_select(scores, one.places), one.top_k, one.largest)
        scores = _put_back(scores, one.places, kept)
    weights = scores.softmax(dim=1)
    if one is not None and one.top_p is not None:
        some = keep_nucleus(_select(weights, one.places), kept, listed, one.top_p)
        weights = _put_back(weights, one.places, some)
    if (alone := drawing.top_p) is not None:
        some, of_scores = _select(weights, alone.places), _select(scores, alone.places)
        listed = list_nucleus(of_scores, some, alone.top_p)
        weights = _put_back(weights, alone.places, keep_nucleus(some, of_scores, listed, alone.top_p))
    return weights if drawing.min_p is None else keep_min_p(weights, drawing.min_p)


def _logprobs(scores: torch.Tensor, token_ids: torch.Tensor, asking: torch.Tensor | None) -> torch.Tensor:
    """Return log-probabilities `(B,)` float64; 0 for rows that do not ask."""
    logprobs = torch.zeros(token_ids.shape, dtype=torch.float64, device=token_ids.device)
    if asking is None:
        return logprobs
    known = scores.index_select(0, asking).float()
    chosen = known.gather(1, token_ids.index_select(0, asking).unsqueeze(1)).squeeze(1)
    return logprobs.index_copy(0, asking, (chosen - known.logsumexp(dim=1)).double())


def _select(tensor: torch.Tensor, places: torch.Tensor | None) -> torch.Tensor:
    return tensor if places is None else tensor.index_select(0, places)


def _put_back(whole: torch.Tensor, places: torch.Tensor | None, part: torch.Tensor) -> torch.Tensor:
    return part if places is None else whole.index_copy_(0, places, part)
