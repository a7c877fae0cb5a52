"""What the rules of a batch's rows come down to, as tensors, worked out once and used for every step.

Knows the shapes of sampling rules, not what they do to logits.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from service.domain.generation import Sampling
from service.engine.distribution import ALL_MASS, key_of

LIKELIEST = Sampling(None, 0.0, 1.0, 0, 1.0, None, (), is_logprobs=False)
"""The rules of a row that nobody set."""
MIN_TEMPERATURE = 1e-6
"""Less overflows; at this one already nothing but the likeliest token is drawn."""


@dataclass(frozen=True, slots=True)
class Row:
    """What holds for a row: its rules, what it draws with, and what ends its answer."""

    rules: Sampling = LIKELIEST
    seed: int = 0
    stop_ids: tuple[int, ...] = ()

    @property
    def needs_seen(self) -> bool:
        """It matters which tokens the prompt and the answer have."""
        return self.rules.repetition_penalty != 1

    @property
    def needs_counts(self) -> bool:
        """It matters how often the answer has each token."""
        return self.rules.presence_penalty != 0 or self.rules.frequency_penalty != 0


@dataclass(frozen=True, slots=True)
class Penalised:
    """Rows with a penalty.

    Attributes:
        places: `(R,)` in the batch; None for the whole batch.
        rows: `(R,)` in the sampler.
        rules: The numbers, `(R, 1)` float32 each.
    """

    places: torch.Tensor | None
    rows: torch.Tensor
    rules: tuple[torch.Tensor, ...]


@dataclass(frozen=True, slots=True)
class TopK:
    """Drawn rows with `top_k`, and what `top_p` they have besides.

    Attributes:
        places: `(R,)` among the drawn rows; None for all of them.
        top_k: `(R, 1)`.
        largest: The largest of them.
        top_p: `(R, 1)` float64; None if none has it.
    """

    places: torch.Tensor | None
    top_k: torch.Tensor
    largest: int
    top_p: torch.Tensor | None


@dataclass(frozen=True, slots=True)
class TopP:
    """Drawn rows with `top_p` alone.

    Attributes:
        places: `(R,)` among the drawn rows; None for all of them.
        top_p: `(R, 1)` float64.
    """

    places: torch.Tensor | None
    top_p: torch.Tensor


@dataclass(frozen=True, slots=True)
class Drawing:
    """The rows that are drawn.

    Attributes:
        places: `(R,)` in the batch; None for the whole batch.
        temperature: `(R, 1)` float32.
        keys: `(R,)` int64, of their seeds.
        steps: `(R,)` int64, tokens generated so far; whoever draws adds 1.
        top_k: Those with it; None if none has it.
        top_p: Those with it and no `top_k`; None if there are none.
        min_p: `(R, 1)` float32; None if none has it.
    """

    places: torch.Tensor | None
    temperature: torch.Tensor
    keys: torch.Tensor
    steps: torch.Tensor
    top_k: TopK | None
    top_p: TopP | None
    min_p: torch.Tensor | None


@dataclass(slots=True)
class Plan:
    """All that a step has to do for a range of rows.

    Attributes:
        first_row: Where the range begins.
        wants_logprob: For every row.
        asking: `(R,)` places of those that want it; None if nobody does.
        repetition: Rows with a repetition penalty.
        counting: Rows with a presence or frequency penalty.
        banned: Places and token ids that cannot be chosen yet, `(N,)` each.
        drawing: Rows with a temperature.
        steps_left: After that many steps the plan is out of date; negative: never.
    """

    first_row: int
    wants_logprob: tuple[bool, ...]
    asking: torch.Tensor | None
    repetition: Penalised | None
    counting: Penalised | None
    banned: tuple[torch.Tensor, ...] | None
    drawing: Drawing | None
    steps_left: int


def plan_of(
    rows: Sequence[Row], first_row: int, generated: Sequence[int], vocabulary: int, device: torch.device
) -> Plan:
    """Work out what the steps of a range of rows have to do.

    Args:
        rows: The range.
        first_row: Where it begins.
        generated: How many tokens each has generated.
        vocabulary: Logits per row.
        device: Where the logits are.
    """
    waits = [max(0, row.rules.min_new_tokens - done) for row, done in zip(rows, generated, strict=True)]
    bans = [(place, one) for place, row in enumerate(rows) if waits[place] for one in row.stop_ids]
    asking = [place for place, row in enumerate(rows) if row.rules.is_logprobs]
    additive = ("presence_penalty", "frequency_penalty")
    return Plan(
        first_row=first_row,
        wants_logprob=tuple(row.rules.is_logprobs for row in rows),
        asking=upload(asking, torch.int64, device) if asking else None,
        repetition=_penalised(rows, first_row, lambda row: row.needs_seen, ("repetition_penalty",), device),
        counting=_penalised(rows, first_row, lambda row: row.needs_counts, additive, device),
        banned=tuple(upload(column, torch.int64, device) for column in zip(*bans, strict=True)) or None,
        drawing=_drawing(rows, generated, vocabulary, device),
        steps_left=min((wait for wait in waits if wait), default=-1),
    )


def upload(values: Any, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return numbers as a tensor on the device, without waiting for it."""
    tensor = torch.tensor(values, dtype=dtype)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _penalised(
    rows: Sequence[Row],
    first_row: int,
    is_wanted: Callable[[Row], bool],
    names: tuple[str, ...],
    device: torch.device,
) -> Penalised | None:
    places = [place for place, row in enumerate(rows) if is_wanted(row)]
    if not places:
        return None
    return Penalised(
        _places(places, len(rows), device),
        upload([first_row + place for place in places], torch.int64, device),
        tuple(_column([getattr(rows[place].rules, name) for place in places], device) for name in names),
    )


def _drawing(batch: Sequence[Row], generated: Sequence[int], vocabulary: int, device: torch.device) -> Drawing | None:
    places = [place for place, row in enumerate(batch) if row.rules.temperature > 0]
    if not places:
        return None
    rules = [batch[place].rules for place in places]
    return Drawing(
        places=_places(places, len(batch), device),
        temperature=_column([max(one.temperature, MIN_TEMPERATURE) for one in rules], device),
        keys=key_of(upload([batch[place].seed for place in places], torch.int64, device)),
        steps=upload([generated[place] for place in places], torch.int64, device),
        top_k=_top_k(rules, vocabulary, device),
        top_p=_top_p(rules, vocabulary, device),
        min_p=_column([one.min_p for one in rules], device) if any(one.min_p > 0 for one in rules) else None,
    )


def _top_k(rules: Sequence[Sampling], vocabulary: int, device: torch.device) -> TopK | None:
    places = [place for place, one in enumerate(rules) if 0 < one.top_k < vocabulary]
    if not places:
        return None
    top_k = [rules[place].top_k for place in places]
    top_p = [rules[place].top_p if rules[place].top_p < 1 else ALL_MASS for place in places]
    return TopK(
        places=_places(places, len(rules), device),
        top_k=_column(top_k, device, torch.int64),
        largest=max(top_k),
        top_p=_column(top_p, device, torch.float64) if min(top_p) < 1 else None,
    )


def _top_p(rules: Sequence[Sampling], vocabulary: int, device: torch.device) -> TopP | None:
    places = [place for place, one in enumerate(rules) if one.top_p < 1 and not 0 < one.top_k < vocabulary]
    if not places:
        return None
    top_p = _column([rules[place].top_p for place in places], device, torch.float64)
    return TopP(_places(places, len(rules), device), top_p)


def _places(places: Sequence[int], num_rows: int, device: torch.device) -> torch.Tensor | None:
    return None if len(places) == num_rows else upload(places, torch.int64, device)


def _column(values: Sequence[float], device: torch.device, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return upload(values, dtype, device).unsqueeze(1)
