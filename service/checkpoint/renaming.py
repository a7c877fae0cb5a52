"""Finds the other names under which tensors stand in another folder.

Knows dotted names and shapes only; no file.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping

Shape = tuple[int, ...]
MIN_SUFFIX = 2
"""A common ending of fewer parts, such as `weight`, says nothing."""


def renaming(names: Mapping[str, Shape | None], targets: Mapping[str, Shape | None]) -> dict[str, str]:
    """Map names to the targets that they must mean, by exchanging what stands in front of a common ending.

    Args:
        names: Shapes by name; None where any shape fits.
        targets: Likewise.

    Returns:
        A target for every name, no target twice; empty if there is no such mapping, or more than one that fits as well.
    """
    by_ending: dict[str, list[str]] = defaultdict(list)
    for target in targets:
        by_ending[_ending(target)].append(target)
    rules: Counter[tuple[str, str]] = Counter()
    for name, shape in names.items():
        for target in by_ending[_ending(name)]:
            if _fits(shape, targets[target]):
                rules[_rule(name, target)] += 1
    found: dict[str, str] = {}
    for name, shape in names.items():
        weights: Counter[str] = Counter()
        for (old, new), count in rules.items():
            target = new + name.removeprefix(old)
            if name.startswith(old) and target in targets and _fits(shape, targets[target]):
                weights[target] = max(weights[target], count)
        best = weights.most_common(2)
        if not best or (len(best) > 1 and best[0][1] == best[1][1]):
            return {}
        found[name] = best[0][0]
    return found if len(set(found.values())) == len(found) else {}


def _ending(name: str) -> str:
    return ".".join(name.split(".")[-MIN_SUFFIX:])


def _fits(one: Shape | None, other: Shape | None) -> bool:
    return one is None or other is None or one == other


def _rule(name: str, target: str) -> tuple[str, str]:
    """Return what stands in front of the longest common ending, in both."""
    parts, others = name.split("."), target.split(".")
    common = 0
    while common < min(len(parts), len(others)) and parts[-1 - common] == others[-1 - common]:
        common += 1
    old, new = parts[: len(parts) - common], others[: len(others) - common]
    return "".join(one + "." for one in old), "".join(one + "." for one in new)
