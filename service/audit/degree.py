"""Says how much an under-trained token matters: what follows from its role and from how often it occurs.

Knows no row.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from service.audit.check import Outcome, fatal, note, warning
from service.audit.usage import Use
from service.domain.facts import CorpusFacts
from service.domain.judgement import Degree

MIN_SHARE = 0.01
"""Tokens in fewer conversations hardly occur."""
ENOUGH = 100
"""Fewer conversations cannot show that a token hardly occurs."""
Maker = Callable[[str, dict[str, Any], str, str], Outcome]
SEVERITIES: dict[Degree, Maker] = {Degree.SEVERE: fatal, Degree.MODERATE: warning, Degree.HARMLESS: note}
RANKS = [Degree.HARMLESS, Degree.MODERATE, Degree.SEVERE]


def read_degree(use: Use, corpus: CorpusFacts | None, *, is_added: bool = False) -> Degree:
    """Judge a token that the model reads and never learned.

    Args:
        use: The token.
        corpus: What the operator gave; None if nothing.
        is_added: Training added the token, so it was meant to be used.
    """
    if use.is_constant or use.is_switched:
        return Degree.SEVERE
    if use.is_rare:
        return Degree.MODERATE  # a processor writes it: no text of a corpus shows how often
    if corpus is None:
        return Degree.SEVERE if is_added else Degree.HARMLESS
    occurs = corpus.tokens.get(use.token_id)
    if is_added and occurs and occurs.written:
        return Degree.SEVERE
    is_frequent = _share(use.token_id, corpus) >= MIN_SHARE
    is_unknown = is_added and corpus.num_conversations < ENOUGH
    return Degree.MODERATE if is_frequent or is_unknown else Degree.HARMLESS


def written_degree(use: Use, corpus: CorpusFacts | None, *, is_meant: bool = False) -> Degree:
    """Judge a token that the model can read but never learned to write.

    Args:
        use: The token.
        corpus: What the operator gave; None if nothing.
        is_meant: Training meant the model to write it.
    """
    if use.is_turn_end:
        return Degree.SEVERE
    if corpus is None:
        return Degree.SEVERE if is_meant else Degree.MODERATE
    occurs = corpus.tokens.get(use.token_id)
    return Degree.SEVERE if occurs and occurs.written else Degree.HARMLESS


def exposure(token_id: int, corpus: CorpusFacts | None) -> float | None:
    """Return the share of conversations that hold a token; None without a corpus."""
    return None if corpus is None else round(_share(token_id, corpus), 6)


def exposure_evidence(ids: Iterable[int], corpus: CorpusFacts | None) -> dict[str, Any]:
    """Return how often tokens occur, as JSON; nothing without a corpus."""
    if corpus is None:
        return {}
    counts = {}
    for one in list(ids)[:50]:
        occurs = corpus.tokens.get(one)
        counts[str(one)] = {
            "conversations": occurs.conversations if occurs else 0,
            "read": occurs.read if occurs else 0,
            "written": occurs.written if occurs else 0,
        }
    return {"corpus": corpus.name, "of_conversations": corpus.num_conversations, "occurrences": counts}


def exposure_words(ids: Sequence[int], corpus: CorpusFacts | None) -> str:
    """Say how often the most frequent of some tokens occurs; empty without a corpus."""
    if corpus is None:
        return ""
    most = max((corpus.tokens[one].conversations for one in ids if one in corpus.tokens), default=0)
    lost = f"; {corpus.num_skipped} could not be read" if corpus.num_skipped else ""
    return f" ({most} of {corpus.num_conversations} conversations of {corpus.name} hold one{lost})"


def worst(degrees: Iterable[Degree]) -> Degree:
    """Return the worst of several."""
    return max(degrees, key=RANKS.index, default=Degree.HARMLESS)


def at_most(degree: Degree, limit: Degree) -> Degree:
    """Return a degree, but no worse than what the evidence allows."""
    return min(degree, limit, key=RANKS.index)


def _share(token_id: int, corpus: CorpusFacts) -> float:
    occurs = corpus.tokens.get(token_id)
    return occurs.conversations / corpus.num_conversations if occurs and corpus.num_conversations else 0.0
