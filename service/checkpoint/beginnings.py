"""Computes the row that a new token may begin with: the mean of the rows of the pieces that its name is made of.

Knows no adapter. Source: mean-of-pieces initialisation, as in mergekit's tokensurgeon and transformers'
`resize_token_embeddings`.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from service.checkpoint.weights import FloatArray, WeightFiles

BRACKETS = re.compile(r"[<>|/_\[\]{}]+")


def pieces_of(folder: Path, texts: Mapping[int, str]) -> dict[int, list[int]]:
    """Encode what tokens' names say, without their brackets.

    Args:
        folder: Of a base, whose tokenizer.json can be read.
        texts: The tokens' texts, by id.
    """
    from tokenizers import Tokenizer

    if not texts:
        return {}
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    words = {one: " ".join(BRACKETS.sub(" ", text).split()) or text for one, text in texts.items()}
    found = {one: list(tokenizer.encode(text, add_special_tokens=False).ids) for one, text in words.items()}
    return {one: pieces for one, pieces in found.items() if pieces}


def mean_rows(weights: WeightFiles, name: str, pieces: Mapping[int, list[int]]) -> dict[int, FloatArray]:
    """Return the mean of the rows of each token's pieces, `(hidden,)`; a token with a piece beyond the matrix has none.

    Args:
        weights: The base's tensors.
        name: Of a matrix.
        pieces: Ids of the pieces, by the token's id.
    """
    num_rows = weights.tensors[name].shape[0]
    known = {one: ids for one, ids in pieces.items() if max(ids) < num_rows}
    return {one: weights.rows(name, ids).mean(axis=0) for one, ids in known.items()}


def middle_length(weights: WeightFiles, name: str) -> float:
    """Return the length of the middle one of a sample of a matrix's rows."""
    num_rows = weights.tensors[name].shape[0]
    sample = weights.rows(name, list(range(0, num_rows, max(1, num_rows // 1000))))
    return float(np.median(np.linalg.norm(sample, axis=1)))
