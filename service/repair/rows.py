"""Gives rows that nobody trained a start: the mean of the rows of the pieces that a token's name is made of.

A stop-gap until they are trained. The record names them, and the audit goes on saying that they were not trained.
Source: mean-of-pieces initialisation, as in mergekit's tokensurgeon and transformers' `resize_token_embeddings`.
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from service.checkpoint.weights import WeightFiles
from service.domain.factors import PREFIX, ROWS
from service.domain.facts import AdapterFacts, BaseFacts
from service.repair.change import Change
from service.repair.models import weights_of

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
BRACKETS = re.compile(r"[<>|/_\[\]{}]+")
REASON = "mean of the rows of its pieces, as long as the middle row: a start, not training"


def initialise_rows(
    folder: Path, adapter: AdapterFacts, base: BaseFacts, base_folder: Path, ids: list[int]
) -> list[Change]:
    """Add rows for untrained tokens to an adapter's copy.

    Args:
        folder: The copy.
        adapter: Its facts.
        base: What it is served on.
        base_folder: Where the base lies.
        ids: Tokens without trained rows.

    Returns:
        The changes; none if the adapter trains rows in another way already, whose tensors must not be mixed with these.
    """
    has_rows = bool(adapter.trainable_tokens) or adapter.embedding_update or adapter.head_update
    if has_rows or not ids or base.embedding is None:
        return []
    names = {one: text for text, one in adapter.new_tokens.items()}
    wanted = [one for one in sorted(ids) if one in names and one < base.embedding.num_rows]
    pieces = {one: _pieces(base_folder, names[one]) for one in wanted}
    weights = weights_of(base_folder)
    matrices = [base.embedding.tensor, *([base.head.tensor] if base.head else [])]
    added = {
        f"{PREFIX}{name.removesuffix('.weight')}.token_adapter.{ROWS}": np.stack(
            [_start(weights, name, pieces[one]) for one in wanted]
        )
        for name in matrices
    }
    _add(folder, added)
    modules = {name.removesuffix(".weight").rpartition(".")[2]: wanted for name in matrices}
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    config["trainable_token_indices"] = modules
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return [Change(WEIGHTS, f"rows of {names[one]}", None, f"pieces {pieces[one]}", REASON) for one in wanted]


def _pieces(base: Path, text: str) -> list[int]:
    """Encode what a token's name says, without its brackets."""
    from tokenizers import Tokenizer

    words = " ".join(BRACKETS.sub(" ", text).split()) or text
    encoded = Tokenizer.from_file(str(base / "tokenizer.json")).encode(words, add_special_tokens=False)
    return list(encoded.ids)


def _start(weights: WeightFiles, name: str, ids: list[int]) -> NDArray[np.float32]:
    """Return the mean of some rows, as long as the middle one of a sample of all rows."""
    num_rows = weights.tensors[name].shape[0]
    sample = weights.rows(name, list(range(0, num_rows, max(1, num_rows // 1000))))
    mean: NDArray[np.float32] = weights.rows(name, ids).mean(axis=0)
    length = float(np.linalg.norm(mean)) or 1.0
    return (mean * (float(np.median(np.linalg.norm(sample, axis=1))) / length)).astype(np.float32)


def _add(folder: Path, added: dict[str, Any]) -> None:
    """Write the adapter's tensors again with these beside them; adapters are small, so all are read."""
    import torch
    from safetensors.torch import save_file as save_torch

    with safe_open(folder / WEIGHTS, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
    tensors |= {key: torch.from_numpy(rows) for key, rows in added.items()}
    save_torch(tensors, folder / WEIGHTS, metadata={"format": "pt"})
