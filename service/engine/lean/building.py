"""Puts lean modules into a model.

Knows which class each stands for; whatever is of another class stays as it is.
"""

from collections.abc import Callable
from typing import Any

from torch import nn
from transformers.models.qwen3_5.modeling_qwen3_5 import Qwen3_5GatedDeltaNet
from transformers.utils import is_flash_linear_attention_available

from service.engine.lean.delta_net import LeanDeltaNet
from service.engine.lean.linear import PackedLinear, WideLinear, can_gain

AMPLE = 4
"""Weights are kept a second time only if so many times their size is free."""


def widen(model: Any, free_bytes: int) -> None:
    """Let a model's linear layers take many rows at once faster, before adapters are mounted on it.

    Args:
        model: A transformers model, changed in place.
        free_bytes: Memory that is free. The decoder's weights are kept in float32 too if it is ample: its prompts are
            short beside pictures, so that turning weights into float32 each time would cost as much as it gains.
    """
    linears = {id(one): one for one in model.get_decoder().modules() if can_gain(one)}
    head = model.get_output_embeddings()  # large, and asked for one row of a prompt
    is_ample = AMPLE * sum(4 * one.weight.numel() for one in linears.values()) < free_bytes

    def wide(one: Any) -> nn.Module | None:
        is_plain = type(one) is nn.Linear and can_gain(one) and one is not head
        return WideLinear.like(one, is_kept=is_ample and id(one) in linears) if is_plain else None

    _replace(model, wide)


def make_lean(tree: Any, free_bytes: int) -> None:
    """Replace modules of a decode tree that shares its tensors with others, but none of its modules.

    Args:
        tree: A transformers model, changed in place.
        free_bytes: Memory that is free; weights are packed, and so kept a second time, only if it is ample.
    """
    parts = [one for one in (tree.get_decoder(), tree.get_output_embeddings()) if one is not None]
    linears = {id(one): one for part in parts for one in part.modules() if can_gain(one)}
    is_ample = AMPLE * sum(one.weight.nbytes for one in linears.values()) < free_bytes
    _replace(tree, lambda one: PackedLinear(one) if is_ample and id(one) in linears else None)
    if not is_flash_linear_attention_available():  # its kernel makes one pass over the states
        _replace(tree, lambda one: LeanDeltaNet(one) if type(one) is Qwen3_5GatedDeltaNet else None)


def _replace(module: nn.Module, stand_in: Callable[[Any], nn.Module | None]) -> None:
    for name, child in list(module.named_children()):
        _replace(child, stand_in)
        if (new := stand_in(child)) is not None:
            setattr(module, name, new)
