"""What the engine tells about its work, in plain numbers.

Knows no metric; `service.metrics` gives them names.
"""

from dataclasses import dataclass
from enum import StrEnum


class StepKind(StrEnum):
    """What a step of the engine computed."""

    PICTURES = "pictures"
    PREFILL = "prefill"
    DECODE = "decode"


@dataclass(frozen=True, slots=True)
class StepStats:
    """One step.

    Attributes:
        seconds: How long it took.
        sequences: How many sequences it served.
        tokens: Prompt tokens computed, tokens decoded, or picture parts encoded.
    """

    kind: StepKind
    seconds: float
    sequences: int
    tokens: int


@dataclass(frozen=True, slots=True)
class EngineStats:
    """The engine at a moment; counts are since its start.

    Attributes:
        running: Sequences prefilling or decoding.
        slots: Sequences that may run at once.
        cache_usage: Share of the slots' memory in use.
        picture_hits: Picture parts that needed no vision tower.
        picture_misses: Picture parts that did.
        prefix_hit_tokens: Prompt tokens taken from remembered beginnings.
        prefix_missed_tokens: Prompt tokens computed.
        nonfinite: Answers that ended because logits were not finite.
        out_of_memory: Answers that ended because the device's memory did not suffice.
        preemptions: Requests that began again because it did not suffice.
        heartbeat: Unix time of the last sign of life.
    """

    running: int
    waiting: int
    slots: int
    cache_usage: float
    picture_hits: int
    picture_misses: int
    prefix_hit_tokens: int
    prefix_missed_tokens: int
    nonfinite: int
    out_of_memory: int
    preemptions: int
    heartbeat: float
