"""Gives input rows that nobody trained a start: the mean of the rows of the pieces that a token's name is made of.

A start for training, not a trained token: the audit knows such rows by their values. Output rows stay as they are, as
LoRA was trained against them: another one changes what is written wherever its token becomes the likeliest.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from service.audit.usage import is_tied
from service.checkpoint.beginnings import mean_rows, middle_length, pieces_of
from service.domain.factors import PREFIX, ROWS
from service.domain.facts import AdapterFacts, BaseFacts
from service.repair.change import Change
from service.repair.models import weights_of

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
REASON = "mean of the input rows of its pieces, as long as the middle row: a start for training, not a trained token"
TIED = "input and output row are one in this base, so that a start would also change what the adapter writes"
OWN = "the adapter trains rows in another way already, whose tensors must not be mixed with a start"


def why_no_start(adapter: AdapterFacts, base: BaseFacts) -> str:
    """Say why untrained rows get no start; empty if they can."""
    if is_tied(base):
        return TIED
    return OWN if adapter.trainable_tokens or adapter.embedding_update or adapter.head_update else ""


def initialise_rows(
    folder: Path, adapter: AdapterFacts, base: BaseFacts, base_folder: Path, ids: list[int]
) -> list[Change]:
    """Add input rows for untrained tokens to an adapter's copy.

    Args:
        folder: The copy.
        adapter: Its facts, of which `why_no_start` has nothing to say.
        base: What it is served on.
        base_folder: Where the base lies.
        ids: Tokens without trained rows.
    """
    if base.embedding is None:
        return []
    name, weights = base.embedding.tensor, weights_of(base_folder)
    names = {one: text for text, one in adapter.new_tokens.items() if one in ids and one < base.embedding.num_rows}
    pieces = pieces_of(base_folder, dict(sorted(names.items())))
    means = mean_rows(weights, name, pieces)
    if not means:
        return []
    length = middle_length(weights, name)
    rows = [row * (length / (float(np.linalg.norm(row)) or 1.0)) for row in means.values()]
    module = name.removesuffix(".weight")
    _add(folder, {f"{PREFIX}{module}.token_adapter.{ROWS}": np.stack(rows).astype(np.float32)})
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    config["trainable_token_indices"] = {module.rpartition(".")[2]: list(means)}
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return [
        Change(WEIGHTS, f"input row of {names[one]} (id {one})", None, f"pieces {pieces[one]}", REASON) for one in means
    ]


def _add(folder: Path, added: dict[str, Any]) -> None:
    """Write the adapter's tensors again with these beside them; adapters are small, so all are read."""
    import torch
    from safetensors.torch import save_file as save_torch

    with safe_open(folder / WEIGHTS, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
    tensors |= {key: torch.from_numpy(rows) for key, rows in added.items()}
    save_torch(tensors, folder / WEIGHTS, metadata={"format": "pt"})
