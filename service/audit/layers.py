"""Tells tensors' layers by their names."""

import re
from collections import defaultdict
from collections.abc import Iterable


def layer_of(name: str) -> str:
    """Return a tensor's layer, as names begin; empty if it is in none."""
    match = re.match(r"(.*?\.\d+)\.", name)
    return match[1] if match else ""


def by_layer(names: Iterable[str]) -> dict[str, list[str]]:
    """Gather tensors by their layers, ascending."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in names:
        if layer := layer_of(name):
            found[layer].append(name)
    return dict(sorted(found.items(), key=lambda item: [int(one) for one in re.findall(r"\d+", item[0])]))
