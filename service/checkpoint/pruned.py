"""Finds ordinary tokens whose rows are zero, or the same as many others': what pruning a vocabulary leaves.

Does not know how many are too many. Reads rows only where many have one length.
"""

import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.checkpoint.soundness import REPLACEMENT
from service.checkpoint.weights import WeightFiles
from service.domain.facts import PrunedFacts, TokenizerFacts

MIN_SAME = 20
"""Fewer rows that are equal are no pruning."""
READ_ROWS = 4096
SHOWN = 8


def pruned_rows(
    weights: WeightFiles, name: str | None, tokenizer: TokenizerFacts | None, folder: Path, unused: Collection[int]
) -> PrunedFacts | None:
    """Describe what was lost of ordinary tokens; None if it is nothing worth telling.

    Args:
        weights: Tensors, of which the matrix was measured.
        name: A vocabulary matrix.
        tokenizer: The folder's.
        folder: Where its tokenizer.json is.
        unused: Ids that no text reaches.
    """
    if name is None or tokenizer is None or name not in weights.surveys:
        return None
    norms = weights.surveys[name].norms
    is_zero = np.flatnonzero(norms == 0)
    equal = _equal_rows(weights, name, norms)
    if len(is_zero) + len(equal) < MIN_SAME or len(is_zero) == len(norms):
        return None
    added = {one.token_id for one in tokenizer.added.values()} | set(unused)
    ordinary = {one: text for text, one in tokenizer.vocabulary.items() if one not in added and len(text) > 1}
    lost = [one for one in (*is_zero.tolist(), *equal) if one in ordinary]
    if len(lost) < MIN_SAME:
        return None
    texts = _texts(folder, ordinary, lost)
    reached = [one for one in lost if texts.get(one, "")]
    scripts = Counter(_script(text) for text in texts.values() if text)
    gone = Counter(_script(texts[one]) for one in reached)
    return PrunedFacts(
        tensor=name,
        num_ordinary=len(ordinary),
        num_zero=int(np.count_nonzero(norms[lost] == 0)),
        num_equal=int(np.count_nonzero(norms[lost] > 0)),
        num_reached=len(reached),
        scripts={script: (count, scripts[script]) for script, count in gone.most_common()},
        tokens={texts[one]: one for one in reached[:: max(1, len(reached) // SHOWN)][:SHOWN]},
    )


def _equal_rows(weights: WeightFiles, name: str, norms: NDArray[np.float64]) -> list[int]:
    """Return the ids of rows that many others are equal to, but for rows of zeros."""
    lengths, inverse, counts = np.unique(norms, return_inverse=True, return_counts=True, equal_nan=True)
    is_shared = (counts >= MIN_SAME) & (lengths > 0)
    ids = [int(one) for one in np.flatnonzero(is_shared[inverse])]
    kinds: dict[int, list[int]] = {}
    for at in range(0, len(ids), READ_ROWS):
        part = ids[at : at + READ_ROWS]
        for one, row in zip(part, weights.rows(name, part), strict=True):
            kinds.setdefault(hash(row.tobytes()), []).append(one)
    return [one for same in kinds.values() if len(same) >= MIN_SAME for one in same]


def _texts(folder: Path, ordinary: Mapping[int, str], lost: list[int]) -> dict[int, str]:
    """Decode tokens that are whole characters; of lost ones those that no text reaches are empty."""
    from tokenizers import Tokenizer

    raw = Tokenizer.from_file(str(folder / "tokenizer.json"))
    texts = {one: raw.decode([one], skip_special_tokens=False) for one in ordinary}
    texts = {one: text for one, text in texts.items() if text.strip() and REPLACEMENT not in text}
    sample = [one for one in lost if one in texts]
    encoded = raw.encode_batch([texts[one] for one in sample], add_special_tokens=False)
    return texts | {one: "" for one, back in zip(sample, encoded, strict=True) if one not in back.ids}


def _script(text: str) -> str:
    """Name the script of most letters, as Unicode does: CJK, LATIN, CYRILLIC; empty without letters."""
    names = Counter(unicodedata.name(one, "?").split()[0] for one in text if one.isalpha())
    return names.most_common(1)[0][0] if names else ""
