"""One Markdown table of all cells and servers, with ratios and what they had to be.

Knows no server beyond its name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.serving.cells import Cell, Measurement, Quantiles

OURS, VLLM, TRANSFORMERS = "ours", "vllm", "transformers"
LABELS = {OURS: "ours", VLLM: "vLLM", TRANSFORMERS: "transformers serve"}
HEADER = (
    "shape", "load", "clients", "server", "output tokens/s", "TTFT p50", "TTFT p99", "inter-token p50",
    "inter-token p99", "ours ÷ it: tokens/s", "TTFT p50", "inter-token p99", "target",
)  # fmt: skip
FASTER_THAN_VLLM, PICTURES_LARGE, REPEATED, FASTER_THAN_TRANSFORMERS = 1.25, 1.0, 3.0, 5.0
LARGE_SHAPE, TRANSFORMERS_CLIENTS = "1.3b", 8
MAX_GAP_SPREAD = 3.0
MERGED_EVENTS = 0.95
MANY_BURSTS = 0.1
LENGTH_TOLERANCE = 1.05
"""Prompts differ a little, and a faster server is asked more of them."""

Results = Mapping[Cell, Mapping[str, Measurement]]


@dataclass(frozen=True, slots=True)
class Target:
    """A number that must be reached, and whether it was."""

    text: str
    is_met: bool

    def __str__(self) -> str:
        """Return both."""
        return f"{self.text}: {'met' if self.is_met else '**missed**'}"


def table(results: Results) -> str:
    """Return the table; sides that cannot be compared say why."""
    rows = [_row(cell, server, found) for cell, found in results.items() for server in LABELS if server in found]
    lines = ["| " + " | ".join(row) + " |" for row in (HEADER, ("---",) * len(HEADER), *rows)]
    return "\n".join(lines + _remarks(results))


def _row(cell: Cell, server: str, found: Mapping[str, Measurement]) -> Sequence[str]:
    start = (cell.shape, cell.name, "" if cell.kind == "open" else str(cell.clients), LABELS[server])
    one, ours = found[server], found.get(OURS)
    if one.problem:
        return (*start, one.problem.replace("|", "\\|").replace("\n", " "), *[""] * (len(HEADER) - 5))
    numbers = (f"{one.tokens_per_second:.1f}", *map(_milliseconds, (one.first.p50, one.first.p99)))
    gaps = tuple(map(_milliseconds, (one.gap.p50, one.gap.p99)))
    if server == OURS or ours is None or ours.problem:
        ratios: tuple[str, ...] = ("", "", "")
    else:
        ratios = (
            _ratio(ours.tokens_per_second, one.tokens_per_second) + _range(ours.rounds, one.rounds),
            _ratio(ours.first.p50, one.first.p50),
            _ratio(ours.gap.p99, one.gap.p99),
        )
    return (*start, *numbers, *gaps, *ratios, str(target(cell, server, found) or ""))


def target(cell: Cell, server: str, found: Mapping[str, Measurement]) -> Target | None:
    """Return what a row had to reach, if it had to reach anything and can be judged."""
    one, ours = found[server], found.get(OURS)
    if server == OURS:
        return _spread_target(one.gap) if cell.kind == "mixed" else None
    least = _least_ratio(cell, server)
    if least is None or ours is None or ours.problem or one.problem:
        return None
    return Target(f"≥ {least:g}", ours.tokens_per_second >= least * one.tokens_per_second)


def _least_ratio(cell: Cell, server: str) -> float | None:
    if cell.kind == "open":  # as long as both keep up, both give as many tokens as are asked for
        return None
    if server == TRANSFORMERS:
        return FASTER_THAN_TRANSFORMERS if cell.clients == TRANSFORMERS_CLIENTS else None
    if cell.shape != LARGE_SHAPE:
        return FASTER_THAN_VLLM
    return {"pictures": PICTURES_LARGE, "repeated": REPEATED}.get(cell.kind, FASTER_THAN_VLLM)


def _spread_target(gap: Quantiles) -> Target | None:
    if gap.p50 is None or gap.p99 is None:
        return None
    spread = gap.p99 / gap.p50
    return Target(f"p99 ≤ {MAX_GAP_SPREAD:g} × median (is {spread:.1f})", spread <= MAX_GAP_SPREAD)


def _remarks(results: Results) -> list[str]:
    """Say what the columns do not: prompts that differ in length, and events that carry several tokens."""
    remarks = []
    for cell, found in results.items():
        usable = {server: one for server, one in found.items() if not one.problem}
        lengths = {LABELS[server]: one.prompt_tokens for server, one in usable.items()}
        name = f"{cell.shape}, {cell.name}, {cell.clients} clients"
        if lengths and max(lengths.values()) > LENGTH_TOLERANCE * min(lengths.values()):
            told = ", ".join(f"{server} {length:.0f}" for server, length in lengths.items())
            remarks.append(f"- {name}: the servers report prompts of different length at the median: {told}.")
        for server, one in usable.items():
            if one.events_per_token < MERGED_EVENTS:
                remarks.append(
                    f"- {name}: {LABELS[server]} sent {one.events_per_token:.2f} events per token; its inter-token "
                    "times are those between events."
                )
            if one.burst_share > MANY_BURSTS:
                remarks.append(
                    f"- {name}: {one.burst_share:.0%} of {LABELS[server]}'s events came together with the one before, "
                    "which makes its inter-token median small and its p99 large."
                )
    return ["", *remarks] if remarks else []


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1000:.1f} ms"


def _ratio(ours: float | None, other: float | None) -> str:
    return f"{ours / other:.2f}" if ours is not None and other else ""


def _range(ours: Sequence[float], other: Sequence[float]) -> str:
    """Return the smallest and the largest ratio of one round, if there were several."""
    ratios = [one / two for one, two in zip(ours, other, strict=False) if two]
    return f" ({min(ratios):.2f} to {max(ratios):.2f})" if len(ratios) > 1 else ""
