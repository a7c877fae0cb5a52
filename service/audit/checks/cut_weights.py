"""Judges weights that were cut to zero while all others stayed the origin's: pruning without training afterwards.

Knows no other change.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping

from service.audit.changes import RISKY
from service.audit.check import Outcome, fatal, warning
from service.domain.facts import BaseFacts, TensorChange

LAYERS = ".layers."
LOST = 0.7
"""Share of a matrix: pruning by magnitude without training is known to harm long before."""


def cut_weights(base: BaseFacts, matrices: Mapping[str, TensorChange]) -> Iterator[Outcome]:
    """Say how much was cut, by stack of layers.

    Args:
        base: The tuned folder.
        matrices: Changes of its matrices, by name.
    """
    sizes = {name: math.prod(one.shape) for name, one in base.tensors.items() if LAYERS in name and len(one.shape) >= 2}
    stacks: dict[str, list[str]] = defaultdict(list)
    for name in sizes:
        stacks[name.partition(LAYERS)[0]].append(name)
    for stack, names in stacks.items():
        cut = {name: matrices[name].cut for name in names if name in matrices and 0 < matrices[name].cut < 1}
        middle = _middle({name: (cut.get(name, 0.0), sizes[name]) for name in names})
        if middle < RISKY:
            continue
        rule = fatal if middle >= LOST else warning
        yield rule(
            f"{middle:.0%} and more of the values are zero in most matrices of {stack}{LAYERS[:-1]}, "
            f"first {next(iter(cut))}, and their other values are the origin's",
            {"tensors": {name: round(one, 4) for name, one in list(cut.items())[:50]}, "count": len(cut)},
            "The weights were pruned and nothing was trained afterwards to make up for what is lost: answers are "
            + ("wrong." if middle >= LOST else "worse, and wrong where little was known."),
            "Train on after pruning, prune less, or use the checkpoint from before.",
        )


def _middle(shares: Mapping[str, tuple[float, int]]) -> float:
    """Return the share that matrices with half of all values reach; each is given with its number of values."""
    half, seen = sum(size for _, size in shares.values()) / 2, 0
    for share, size in sorted(shares.values(), reverse=True):
        seen += size
        if seen > half:
            return share
    return 0.0
