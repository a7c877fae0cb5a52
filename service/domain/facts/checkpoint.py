"""Everything that the files of one start say, together."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from service.domain.facts.comparison import MergeFacts, OriginFacts
from service.domain.facts.folders import AdapterFacts, BaseFacts


@dataclass(frozen=True, slots=True)
class CheckpointFacts:
    """Base and adapters as their files say.

    Attributes:
        base: The folder to be served.
        adapters: What is to be served on it.
        origin: The folder that the base was tuned from, if the operator names it.
        merge: The adapter that is said to be merged into the base, if the operator names it.
    """

    base: BaseFacts
    adapters: Mapping[str, AdapterFacts] = field(default_factory=dict)
    origin: OriginFacts | None = None
    merge: MergeFacts | None = None
