"""Finds out which rows of a vocabulary matrix an adapter replaces, and how far they turn.

Knows PEFT's key names; does not know which rows should have been trained.
"""

import re
from collections.abc import Iterable

from service.checkpoint.adapter_config import AdapterConfig
from service.checkpoint.vocabulary import turn
from service.checkpoint.weights import WeightFiles
from service.domain.facts import MatrixFacts, RowUpdate

TOKEN_DELTA = re.compile(r"(\.token_adapter)?\.trainable_tokens_delta$")
LORA_FACTOR = re.compile(r"\.lora_(?P<kind>embedding_)?(?P<side>[AB])(\.weight)?$")


def row_update(
    weights: WeightFiles,
    config: AdapterConfig,
    suffixes: tuple[str, ...],
    ids: Iterable[int],
    base: WeightFiles,
    matrix: MatrixFacts | None,
) -> RowUpdate | None:
    """Describe what an adapter does to one matrix; None for nothing.

    Args:
        weights: The adapter's tensors.
        config: The adapter's config.
        suffixes: Endings of the matrix's tensor name, such as `lm_head.weight`.
        ids: Rows that matter.
        base: The base's tensors.
        matrix: The base's matrix, whose old rows are compared.
    """
    modules = tuple(one.removesuffix(".weight") for one in suffixes)
    factors: dict[str, str] = {}
    for key in weights.tensors:
        if not weights.is_matrix(key):
            continue
        if (module := TOKEN_DELTA.sub("", key)) != key and module.endswith(modules):
            return _token_update(weights, key, _ids_of(config, module), base, matrix)
        if key.endswith(suffixes):
            return _full_update(weights, key, ids, base, matrix)
        if (factor := LORA_FACTOR.search(key)) and key[: factor.start()].endswith(modules):
            factors[f"{factor['kind'] or ''}{factor['side']}"] = key
    return _lora_update(weights, factors, ids)


def _ids_of(config: AdapterConfig, module: str) -> tuple[int, ...]:
    """Find the ids of a module's rows; on a tied base PEFT also saves rows of the module that the config leaves out."""
    named = next((ids for name, ids in config.trainable_tokens.items() if module.endswith(name)), None)
    others = set(config.trainable_tokens.values())
    return named if named is not None else others.pop() if len(others) == 1 else ()


def _token_update(
    weights: WeightFiles, key: str, ids: tuple[int, ...], base: WeightFiles, matrix: MatrixFacts | None
) -> RowUpdate:
    """Match the saved rows with their ids: whole rows, despite the name, in the order of the config.

    Source: peft 0.21.2, tuners/trainable_tokens/layer.py.
    """
    rows = dict(zip(ids, range(weights.tensors[key].shape[0]), strict=False))
    return RowUpdate("trainable_tokens", None, _turns(weights, key, rows, base, matrix))


def _full_update(
    weights: WeightFiles, key: str, ids: Iterable[int], base: WeightFiles, matrix: MatrixFacts | None
) -> RowUpdate:
    num_rows = weights.tensors[key].shape[0]
    rows = {one: one for one in ids if 0 <= one < num_rows}
    return RowUpdate("modules_to_save", num_rows, _turns(weights, key, rows, base, matrix))


def _turns(
    weights: WeightFiles, key: str, rows: dict[int, int], base: WeightFiles, matrix: MatrixFacts | None
) -> dict[int, float]:
    """Compare new rows with old ones; a row that the base does not have is new throughout."""
    new = dict(zip(rows, weights.rows(key, list(rows.values())), strict=True))
    if matrix is None or matrix.hidden_size != weights.tensors[key].shape[1]:
        return {one: float(row.any()) for one, row in new.items()}
    within = [one for one in rows if 0 <= one < matrix.num_rows]
    old = dict(zip(within, base.rows(matrix.tensor, within), strict=True))
    return {one: turn(old[one], row) if one in old else float(row.any()) for one, row in new.items()}


def _lora_update(weights: WeightFiles, factors: dict[str, str], ids: Iterable[int]) -> RowUpdate | None:
    """Say which rows low-rank factors touch: columns of `lora_embedding_A` `(rank, rows)`, rows of `lora_B`.

    On embeddings PEFT starts A at zero and B at random, on linear layers the other way round.
    """
    if {"embedding_A", "embedding_B"} <= factors.keys():
        by_row, other = weights.values(factors["embedding_A"]).T, weights.values(factors["embedding_B"])
    elif {"A", "B"} <= factors.keys():
        by_row, other = weights.values(factors["B"]), weights.values(factors["A"])
    else:
        return None
    is_other_zero = not other.any()
    turns = {one: 0.0 if is_other_zero else float(by_row[one].any()) for one in ids if 0 <= one < len(by_row)}
    return RowUpdate("lora", None, turns)
