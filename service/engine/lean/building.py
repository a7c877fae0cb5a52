"""Puts lean modules into a model.

Knows which class each stands for; whatever is of another class stays as it is.
"""

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import nn
from transformers.models.qwen3_5.modeling_qwen3_5 import Qwen3_5GatedDeltaNet
from transformers.utils import is_flash_linear_attention_available

from service.engine.lean import kernels
from service.engine.lean.delta_net import LeanDeltaNet
from service.engine.lean.eight_bit import EightBitLinear
from service.engine.lean.linear import PackedLinear, PanelLinear, WideLinear, can_gain
from service.engine.lean.rows import NORMS, LeanMLP, LeanNorm, is_gated_mlp

LEAN = frozenset({LeanDeltaNet, LeanNorm, LeanMLP})
AMPLE = 4
"""Weights are kept a second time only if so many times their size is free."""


def speed_up(model: Any, free_bytes: int, *, is_eight_bit: bool = False) -> None:
    """Let a model's linear layers multiply faster, before adapters are mounted on it.

    Args:
        model: A transformers model, changed in place.
        free_bytes: Memory that is free. What decodes keeps its weights a second time if it is ample; what sees pictures
            only, never.
        is_eight_bit: What decodes keeps its weights a second time in 8 bits, whatever is free, and computes with these;
            needs the kernels.
    """
    head = model.get_output_embeddings()  # large, and asked for one row of a prompt
    decoding = _decoding(model)
    has_panels = bool(decoding) and _is_ample(decoding, free_bytes) and kernels.are_there()

    def faster(one: Any) -> nn.Module | None:
        if type(one) is not nn.Linear or not can_gain(one):
            return None
        if id(one) in decoding and is_eight_bit:
            return EightBitLinear.like(one)
        if id(one) in decoding and has_panels:
            return PanelLinear.like(one)
        return WideLinear.like(one) if one is not head else None

    _replace(model, faster)


def pack(tree: Any, free_bytes: int) -> None:
    """Pack the weights of a decode tree that have no panels.

    Args:
        tree: A transformers model that shares its tensors with others, but none of its modules; changed in place.
        free_bytes: Memory that is free; weights are packed, and so kept a second time, only if it is ample.
    """
    decoding = _decoding(tree)
    is_ample = _is_ample(decoding, free_bytes)
    _replace(tree, lambda one: PackedLinear(one) if is_ample and id(one) in decoding else None)


def make_lean(tree: Any) -> None:
    """Replace what lies between the linear layers of a decode tree by what does the same in fewer passes.

    Args:
        tree: As for `pack`.
    """
    if not is_flash_linear_attention_available():  # its kernel makes one pass over the states
        _replace(tree, lambda one: LeanDeltaNet(one) if type(one) is Qwen3_5GatedDeltaNet else None, LEAN)
    if _suits_kernels(tree):
        _replace(tree, lambda one: LeanNorm(one) if type(one) in NORMS else None, LEAN)
        _replace(tree, lambda one: LeanMLP(one) if is_gated_mlp(one) else None, LEAN)


def make_prompts_lean(tree: Any) -> None:
    """Do as `make_lean` does where prompts gain from it too, which takes kernels; a second time changes nothing.

    Args:
        tree: A transformers model with its adapters; changed in place.
    """
    if _suits_kernels(tree):
        make_lean(tree)


def _suits_kernels(tree: Any) -> bool:
    first = next(tree.parameters())
    return first.dtype == torch.bfloat16 and first.device.type == "cpu" and kernels.are_there()


def _decoding(model: Any) -> dict[int, Any]:
    """Return the linear layers that see every token and gain from another layout, by identity."""
    parts = [one for one in (model.get_decoder(), model.get_output_embeddings()) if one is not None]
    return {id(one): one for part in parts for one in part.modules() if can_gain(one)}


def _is_ample(linears: dict[int, Any], free_bytes: int) -> bool:
    size: int = sum(one.weight.nbytes for one in linears.values())
    return AMPLE * size < free_bytes


def _replace(
    module: nn.Module, stand_in: Callable[[Any], nn.Module | None], closed: Collection[type[nn.Module]] = ()
) -> None:
    """Replace modules below one, from within; those of closed classes are left as they are, with what is in them."""
    for name, child in list(module.named_children()):
        if type(child) in closed:
            continue
        _replace(child, stand_in, closed)
        if (new := stand_in(child)) is not None:
            setattr(module, name, new)
