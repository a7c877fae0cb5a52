"""The kinds of load, and what is measured of each.

Knows no process and no Markdown.
"""

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from benchmarks.serving.dialects import Question
from benchmarks.serving.load import Arrivals, Exchange, Load, Span, Window
from benchmarks.serving.material import LONG_ANSWER_TOKENS, LONG_TOKENS, REPEATED_PICTURES, Material
from benchmarks.serving.servers import Running
from benchmarks.serving.shapes import Shape

KINDS = {
    "text": "prompts of about 64 tokens, each with a beginning of its own",
    "pictures": "another picture in every request",
    "repeated": "the same picture in every request, other prompts",
    "mixed": "text, while prompts of about 1,500 tokens keep arriving; the answers to those are not counted",
    "open": "text, arriving at random whatever the server does",
}
WARM_SEED = 1_000_003
MIN_GAPS = 20
"""Fewer gaps between tokens say nothing about the slowest percent."""
BURST_SECONDS = 0.0005
"""No server here computes a token in so little time."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One load: which kind, and how much of it.

    Attributes:
        clients: Of a closed loop.
        tokens: Of every answer.
        rate: Arrivals per second: of all requests if `kind` is `open`, of the long ones if it is `mixed`.
    """

    shape: str
    kind: str
    clients: int
    tokens: int
    rate: float

    @property
    def name(self) -> str:
        """What stands in the table."""
        if self.kind == "open":
            return f"{self.kind}, {self.rate:g}/s"
        return f"{self.kind} ({self.rate:g}/s)" if self.kind == "mixed" else self.kind


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Median and slowest percent, in seconds; None without enough samples."""

    p50: float | None
    p99: float | None


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one server did with one cell.

    Attributes:
        tokens_per_second: Of answers, in the window.
        events_per_token: Below 1, some events carried several tokens, and gaps are between events.
        burst_share: Of the gaps between events, those that are none: several events came at once.
        prompt_tokens: Of the answered requests, at the median.
        finished: Answers that came whole.
        problem: Why the numbers must not be compared, or empty.
        rounds: Tokens per second of each round, if this is the middle of several.
    """

    tokens_per_second: float = 0.0
    first: Quantiles = Quantiles(None, None)
    gap: Quantiles = Quantiles(None, None)
    events_per_token: float = 0.0
    burst_share: float = 0.0
    prompt_tokens: float = 0.0
    finished: int = 0
    problem: str = ""
    rounds: tuple[float, ...] = ()


def run_cell(cell: Cell, shape: Shape, server: Running, folder: Path, span: Span, system_tokens: int) -> Measurement:
    """Drive a server with one load.

    Args:
        cell: Which.
        shape: Of the model.
        server: Which.
        folder: The checkpoint.
        span: For how long.
        system_tokens: Length of a shared system message.
    """
    material = Material(folder, shape.picture_pixels, _seed(cell), system_tokens)
    load = Load(server.url, server.launch.dialect)
    questions = _questions(cell, material)
    if cell.kind == "open":
        exchanges, window = load.open(Arrivals(questions, cell.rate), span)
    elif cell.kind == "mixed":
        long = Arrivals(material.texts(LONG_ANSWER_TOKENS, LONG_TOKENS), cell.rate, is_background=True)
        exchanges, window = load.closed(questions, cell.clients, span, long)
    else:
        exchanges, window = load.closed(questions, cell.clients, span)
    return measure(exchanges, window)


def warm(shape: Shape, server: Running, folder: Path, kinds: Sequence[str], tokens: int, clients: int) -> None:
    """Let a server do everything once that it does later, with questions that do not come again."""
    material = Material(folder, shape.picture_pixels, seed=WARM_SEED)
    asked: list[tuple[Iterator[Question], int, int]] = [(material.texts(tokens), 1, 1)]
    asked.append((material.texts(min(tokens, 8)), clients, clients))
    if {"pictures", "repeated"} & set(kinds):
        asked.append((material.pictures(min(tokens, 8)), min(clients, 2), 2))
    if "mixed" in kinds:
        asked.append((material.texts(LONG_ANSWER_TOKENS, LONG_TOKENS), 1, 1))
    for questions, num_clients, requests in asked:
        exchanges, _ = Load(server.url, server.launch.dialect).closed(questions, num_clients, Span(0, requests))
        for exchange in exchanges:
            if exchange.error:
                raise RuntimeError(f"warming up: {exchange.error}")


def _questions(cell: Cell, material: Material) -> Iterator[Question]:
    if cell.kind == "pictures":
        return material.pictures(cell.tokens)
    if cell.kind == "repeated":
        return material.pictures(cell.tokens, REPEATED_PICTURES)
    return material.texts(cell.tokens)


def _seed(cell: Cell) -> int:
    """Another one for every cell of a server, so that nothing is in its caches, and the same for every server."""
    return list(KINDS).index(cell.kind) * 1000 + cell.clients


def measure(exchanges: Sequence[Exchange], window: Window) -> Measurement:
    """Turn exchanges into numbers, with the reason if they must not be compared."""
    measured = [one for one in exchanges if not one.is_background]
    whole = [one for one in measured if one.finished is not None and one.error is None]
    if problem := _problem(exchanges, whole):
        return Measurement(finished=len(whole), problem=problem)
    num_events = sum(len(one.text_times) for one in whole)
    events_per_token = num_events / sum(one.answer_tokens or 0 for one in whole)
    events = sum(window.start <= moment <= window.end for one in measured for moment in one.text_times)
    gaps = [
        later - earlier
        for one in measured
        for earlier, later in zip(one.text_times, one.text_times[1:], strict=False)
        if later <= window.end
    ]
    firsts = [one.text_times[0] - one.due for one in measured if one.text_times]
    return Measurement(
        tokens_per_second=events / events_per_token / (window.end - window.start),
        first=_quantiles(firsts, 1),
        gap=_quantiles(gaps, MIN_GAPS),
        events_per_token=events_per_token,
        burst_share=sum(gap < BURST_SECONDS for gap in gaps) / max(len(gaps), 1),
        prompt_tokens=statistics.median(one.prompt_tokens or 0 for one in whole),
        finished=len(whole),
    )


def together(rounds: Sequence[Measurement]) -> Measurement:
    """Return what several rounds of one cell say together: the mean of their rates, and the median of the rest."""
    if problem := next((one.problem for one in rounds if one.problem), ""):
        return Measurement(finished=sum(one.finished for one in rounds), problem=problem)
    rates = tuple(one.tokens_per_second for one in rounds)
    return Measurement(
        tokens_per_second=statistics.mean(rates),
        first=_middle([one.first for one in rounds]),
        gap=_middle([one.gap for one in rounds]),
        events_per_token=statistics.mean(one.events_per_token for one in rounds),
        burst_share=statistics.mean(one.burst_share for one in rounds),
        prompt_tokens=statistics.median(one.prompt_tokens for one in rounds),
        finished=sum(one.finished for one in rounds),
        rounds=rates,
    )


def _middle(rounds: Sequence[Quantiles]) -> Quantiles:
    known = [[value for value in values if value is not None] for values in zip(*map(astuple, rounds), strict=True)]
    return Quantiles(*(statistics.median(values) if values else None for values in known))


def _problem(exchanges: Sequence[Exchange], whole: Sequence[Exchange]) -> str:
    errors = [one.error for one in exchanges if one.error]
    if errors:
        return f"{len(errors)} of {len(exchanges)} requests failed: {errors[0]}"
    if not whole:
        return "no answer came whole in time"
    wrong = [one for one in whole if one.answer_tokens != one.wanted_tokens]
    if wrong:
        return f"{len(wrong)} answers have not the {wrong[0].wanted_tokens} tokens asked for: {wrong[0].answer_tokens}"
    return "" if any(one.text_times for one in whole) else "no event carried text"


def _quantiles(samples: Sequence[float], least: int) -> Quantiles:
    if len(samples) < max(least, 1):
        return Quantiles(None, None)
    ordered = sorted(samples)
    return Quantiles(*(ordered[max(math.ceil(share * len(ordered)) - 1, 0)] for share in (0.5, 0.99)))
