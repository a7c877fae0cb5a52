"""Puts lean modules into a decode tree.

Knows which class each stands for; whatever is of another class stays as it is.
"""

from collections.abc import Callable
from typing import Any

from torch import nn
from transformers.models.qwen3_5.modeling_qwen3_5 import Qwen3_5GatedDeltaNet

from service.engine.lean.delta_net import LeanDeltaNet
from service.engine.lean.linear import PackedLinear, can_pack


def make_lean(tree: Any, free_bytes: Callable[[], int]) -> None:
    """Replace modules of a tree that shares its tensors with others, but none of its modules.

    Args:
        tree: A transformers model, changed in place.
        free_bytes: Asks for the memory that is free; weights are kept a second time only if it is ample.
    """
    linears = {id(one): one for one in tree.get_decoder().modules() if can_pack(one)}
    head = tree.get_output_embeddings()
    linears |= {id(one): one for one in (head.modules() if head is not None else ()) if can_pack(one)}
    has_room = 2 * sum(one.weight.nbytes for one in linears.values()) < free_bytes()
    _replace(tree, lambda one: PackedLinear(one) if has_room and id(one) in linears else None)
    _replace(tree, lambda one: LeanDeltaNet(one) if type(one) is Qwen3_5GatedDeltaNet else None)


def _replace(module: nn.Module, stand_in: Callable[[Any], nn.Module | None]) -> None:
    for name, child in list(module.named_children()):
        _replace(child, stand_in)
        if (new := stand_in(child)) is not None:
            setattr(module, name, new)
