"""How often tokens occur in conversations that an operator gives.

Knows no token that is good or bad.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class TokenExposure:
    """One token in a corpus.

    Attributes:
        conversations: Conversations that hold it at least once, anywhere.
        read: Occurrences where the model reads it: prompts, template and all.
        written: Occurrences inside assistant turns, where the model is to write it.
    """

    conversations: int
    read: int
    written: int


@dataclass(frozen=True, slots=True)
class CorpusFacts:
    """A corpus as one subject's tokenizer and template render it.

    Attributes:
        name: File name; never a path.
        num_conversations: Conversations that could be rendered.
        num_tokens: Of all of them.
        tokens: Added tokens and ids that matter, by id; one that is missing never occurs.
        skipped: Lines that could not be used, as line number and reason; the first few.
        num_skipped: All such lines.
        is_cut: The corpus is longer than what was read of it.
    """

    name: str
    num_conversations: int
    num_tokens: int
    tokens: Mapping[int, TokenExposure] = field(repr=False)
    skipped: tuple[tuple[int, str], ...] = ()
    num_skipped: int = 0
    is_cut: bool = False
