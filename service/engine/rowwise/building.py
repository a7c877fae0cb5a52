"""Builds the tree in which every row of a decode step has its own adapter.

Prefill and pictures stay with the adapters' own views; so does an adapter that cannot be batched, as a whole.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from service.engine.adapters import share
from service.engine.rowwise.comparing import compare, decode_path
from service.engine.rowwise.factors import Downs
from service.engine.rowwise.modules import RowEmbedding, RowLinear, RowModule
from service.engine.rowwise.parts import NotBatched, Part
from service.engine.rowwise.routing import Routing
from service.engine.rowwise.tracing import trace


@dataclass(frozen=True, slots=True)
class RowWise:
    """One tree for the base and the adapters that can be batched.

    Attributes:
        model: Call it like the base, for decode steps; it shares all tensors of the base.
        routing: Set it before each step.
        batched: Number in the routing of each adapter.
        grouped: Why the other adapters' rows must run on their own view.
        apart: Of the batched ones, those for whose rows some module does other operations than for all rows.
    """

    model: Any
    routing: Routing
    batched: dict[str, int]
    grouped: dict[str, str]
    apart: frozenset[int]


@torch.no_grad()
def row_wise(base: Any, views: Mapping[str, Any]) -> RowWise:
    """Build the tree.

    Args:
        base: A transformers model.
        views: The base with one adapter each, by id, as `mount` makes them.
    """
    path: tuple[str, ...] = ()
    inputs: dict[str, int] = {}
    problem = ""
    batched: dict[str, int] = {}
    grouped: dict[str, str] = {}
    parts: dict[str, dict[int, Part]] = defaultdict(dict)
    try:
        if views:
            path, inputs = decode_path(base), trace(share(base))
    except NotBatched as error:
        problem = str(error)
    for adapter_id, view in views.items():
        try:
            if problem:
                raise NotBatched(problem)
            found = compare(base, view, path, inputs)
        except NotBatched as error:
            grouped[adapter_id] = str(error)
            continue
        batched[adapter_id] = number = len(batched) + 1
        for name, part in found.items():
            parts[name][number] = part
    routing = Routing(next(base.parameters()).device, len(batched))
    tree = _tree(base, parts, routing, inputs)
    apart = [one.apart for one in tree.modules() if isinstance(one, RowModule)]
    return RowWise(tree, routing, batched, grouped, frozenset().union(*apart))


def _tree(base: Any, parts: Mapping[str, Mapping[int, Part]], routing: Routing, inputs: Mapping[str, int]) -> Any:
    """Put a row-wise module in the place of each one that an adapter changes.

    Args:
        base: Stays as it is.
        parts: What adapters do, by module and adapter.
        routing: For all of them.
        inputs: A number of the tensor that each module reads, in the order of the calls.
    """
    tree = share(base)
    readers: dict[int, list[RowModule]] = defaultdict(list)
    for name, number in inputs.items():
        if name in parts:
            parent, _, key = name.rpartition(".")
            module = _row_module(tree.get_submodule(name), parts[name], routing)
            setattr(tree.get_submodule(parent), key, module)
            if module.factors is not None:
                readers[number].append(module)
    for modules in readers.values():
        downs = Downs([one.factors for one in modules if one.factors is not None], routing)
        for one in modules:
            one.downs = downs
    return tree


def _row_module(base: Any, parts: Mapping[int, Part], routing: Routing) -> RowModule:
    if isinstance(base, nn.Embedding):
        return RowEmbedding(base, parts, routing, (base.num_embeddings, base.embedding_dim))
    dims = tuple(base.weight.shape) if isinstance(base, Conv1D) else (base.in_features, base.out_features)
    return RowLinear(base, parts, routing, (dims[0], dims[1]))
