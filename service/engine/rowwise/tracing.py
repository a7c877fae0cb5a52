"""Watches one decode step of the base, to know which modules are called with the rows of the batch.

A module that is not (its weight is read directly, or a router picks what it sees) cannot have an adapter for each row.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from service.engine.rowwise.parts import NotBatched

KINDS = (nn.Linear, Conv1D, nn.Embedding)
ROWS = 3


def trace(model: Any) -> dict[str, int]:
    """Run a step of one token for a few rows.

    Args:
        model: A copy that is thrown away: models keep what they computed of positions.

    Returns:
        For each linear layer and embedding that saw the rows of the batch, in the order of the calls: a number of the
        tensor that it read. Layers with the same number read the same numbers.

    Raises:
        NotBatched: The model cannot run a step of text alone.
    """
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    inputs: dict[str, int] = {}
    spoiled: set[str] = set()

    def watch(name: str) -> Callable[..., None]:
        def hook(_module: Any, arguments: tuple[Any, ...]) -> None:
            x = arguments[0] if arguments else None
            if not isinstance(x, torch.Tensor) or x.shape[0] != ROWS:
                spoiled.add(name)
                return
            inputs[name] = _number(x, seen) if name not in inputs else _number(x.clone(), seen)

        return hook

    for name, module in model.named_modules():
        if isinstance(module, KINDS):
            module.register_forward_pre_hook(watch(name))
    ids = torch.arange(ROWS, device=next(model.parameters()).device)[:, None]
    try:
        with torch.inference_mode():
            model(input_ids=ids, use_cache=False)
    except Exception as error:  # a model's own code may raise anything
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise NotBatched(f"the model cannot run a step of text alone: {type(error).__name__}: {reason}") from error
    return {name: number for name, number in inputs.items() if name not in spoiled}


def _number(x: torch.Tensor, seen: list[tuple[torch.Tensor, torch.Tensor]]) -> int:
    """Number a tensor by identity, as long as nobody wrote into it since it was seen first."""
    for number, (one, before) in enumerate(seen):
        if one is x and torch.equal(before, x):
            return number
    seen.append((x, x.clone()))
    return len(seen) - 1
