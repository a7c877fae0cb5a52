"""Finds the ids that no text can hold, so that their rows show what an untrained row looks like.

Knows names and ids only, and no row.

Source: "Fishing for Magikarp" (Land and Bartolo, 2024) and its code, cohere-ai/magikarp: ids behind the tokenizer's
last one, bytes that cannot occur in UTF-8, names that say that a token is kept for later.
"""

import re
from collections.abc import Collection, Mapping

from service.domain.facts import TokenizerFacts
from service.domain.facts.rows import BEHIND, BYTES

RESERVED = "reserved"
IMPOSSIBLE_BYTES = (0xC0, 0xC1, *range(0xF5, 0x100))
"""No UTF-8 text holds one of these: two would start overlong forms, the others lie beyond the last code point."""
RESERVED_NAME = re.compile(r"[<\[].*(reserved|unused|dummy|extra_(id_)?\d).*[>\]]", re.IGNORECASE)


def unused_ids(tokenizer: TokenizerFacts | None, num_rows: int, needed: Collection[int]) -> dict[str, list[int]]:
    """List the ids of a matrix that no text reaches, by kind, ascending.

    Args:
        tokenizer: The folder's.
        num_rows: Of the matrix.
        needed: Ids that are in use all the same, such as a reserved one that a template writes.
    """
    if tokenizer is None:
        return {}
    vocabulary = tokenizer.vocabulary
    kinds = {
        BEHIND: range(tokenizer.max_id + 1, num_rows),
        BYTES: (vocabulary[text] for text in impossible_bytes(vocabulary)),
        RESERVED: (one for text, one in vocabulary.items() if text[:1] in "<[" and RESERVED_NAME.fullmatch(text)),
    }
    wanted = frozenset(needed)
    return {kind: sorted({one for one in ids if 0 <= one < num_rows} - wanted) for kind, ids in kinds.items()}


def impossible_bytes(vocabulary: Mapping[str, int]) -> list[str]:
    """Spell the bytes that cannot occur in UTF-8 as a vocabulary does: `<0xC0>` with byte fallback, `À` byte-level.

    A vocabulary that does neither has none: there `À` is a letter.
    """
    fallback = [f"<0x{one:02X}>" for one in IMPOSSIBLE_BYTES]
    if all(one in vocabulary for one in fallback):
        return fallback
    is_byte_level = all(chr(one) in vocabulary for one in range(0x100, 0x144))  # how it spells 68 unprintable bytes
    spelled = [chr(one) for one in IMPOSSIBLE_BYTES]
    return spelled if is_byte_level and all(one in vocabulary for one in spelled) else []
