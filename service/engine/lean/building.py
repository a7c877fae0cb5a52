"""Puts lean modules into a model.

Knows which class each stands for; whatever is of another class stays as it is.
"""

from collections.abc import Callable
from typing import Any

from torch import nn
from transformers.models.qwen3_5.modeling_qwen3_5 import Qwen3_5GatedDeltaNet
from transformers.utils import is_flash_linear_attention_available

from service.engine.lean.delta_net import LeanDeltaNet
from service.engine.lean.linear import PackedLinear, PanelLinear, WideLinear, can_gain
from service.engine.lean.panels import kernel

AMPLE = 4
"""Weights are kept a second time only if so many times their size is free."""


def speed_up(model: Any, free_bytes: int) -> None:
    """Let a model's linear layers multiply faster, before adapters are mounted on it.

    Args:
        model: A transformers model, changed in place.
        free_bytes: Memory that is free. What decodes keeps its weights a second time if it is ample; what sees pictures
            only, never.
    """
    head = model.get_output_embeddings()  # large, and asked for one row of a prompt
    decoding = _decoding(model)
    has_panels = bool(decoding) and _is_ample(decoding, free_bytes) and kernel() is not None

    def faster(one: Any) -> nn.Module | None:
        if type(one) is not nn.Linear or not can_gain(one):
            return None
        if has_panels and id(one) in decoding:
            return PanelLinear.like(one)
        return WideLinear.like(one) if one is not head else None

    _replace(model, faster)


def make_lean(tree: Any, free_bytes: int) -> None:
    """Replace modules of a decode tree that shares its tensors with others, but none of its modules.

    Args:
        tree: A transformers model, changed in place.
        free_bytes: Memory that is free; weights that are not in panels are packed, and so kept a second time, if it is
            ample.
    """
    decoding = _decoding(tree)
    is_ample = _is_ample(decoding, free_bytes)
    _replace(tree, lambda one: PackedLinear(one) if is_ample and id(one) in decoding else None)
    if not is_flash_linear_attention_available():  # its kernel makes one pass over the states
        _replace(tree, lambda one: LeanDeltaNet(one) if type(one) is Qwen3_5GatedDeltaNet else None)


def _decoding(model: Any) -> dict[int, Any]:
    """Return the linear layers that see every token and gain from another layout, by identity."""
    parts = [one for one in (model.get_decoder(), model.get_output_embeddings()) if one is not None]
    return {id(one): one for part in parts for one in part.modules() if can_gain(one)}


def _is_ample(linears: dict[int, Any], free_bytes: int) -> bool:
    size: int = sum(one.weight.nbytes for one in linears.values())
    return AMPLE * size < free_bytes


def _replace(module: nn.Module, stand_in: Callable[[Any], nn.Module | None]) -> None:
    for name, child in list(module.named_children()):
        _replace(child, stand_in)
        if (new := stand_in(child)) is not None:
            setattr(module, name, new)
