"""Finds the tensors of one folder in another whose layout may have been renamed, as re-saving elsewhere does.

Compares names and shapes, no values. A whole prefix is renamed or nothing: single tensors are never guessed.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

Shape = tuple[int, ...]
ENDS = (7, 6, 5, 4, 3, 2)
"""Components at the end of a name by which tensors that occur once on both sides betray a renamed prefix."""


def pair_names(old: Mapping[str, Shape], new: Mapping[str, Shape]) -> dict[str, str]:
    """Return the new name of each old one: the same name, or the same behind a prefix that was renamed as a whole.

    Names that stay without a partner are left out. No new name is given twice.

    Args:
        old: Shapes by name.
        new: Shapes by name.
    """
    pairs = {name: name for name in old if name in new}
    left = [name for name in old if name not in pairs]
    free = [name for name in new if name not in pairs]
    while left and free:
        rule = _likeliest_rule(left, free, lambda a, b: _fits(old[a], new[b]))
        if rule is None:
            break
        available = set(free)
        found = {name: renamed for name in left if (renamed := _renamed(name, rule)) in available}
        found = {name: renamed for name, renamed in found.items() if _fits(old[name], new[renamed])}
        if not found:
            break
        pairs |= found
        left = [name for name in left if name not in found]
        free = [name for name in free if name not in set(found.values())]
    return pairs


def _likeliest_rule(
    left: Iterable[str], free: Iterable[str], fits: Callable[[str, str], bool]
) -> tuple[str, str] | None:
    """Return the renaming of a prefix that most tensors speak for, or None if none speaks for any."""
    votes: Counter[tuple[str, str]] = Counter()
    for count in ENDS:
        olds, news = _by_end(left, count), _by_end(free, count)
        for end, names in olds.items():
            others = news.get(end, ())
            if len(names) == len(others) == 1 and fits(names[0], others[0]):
                rule = _rule(names[0], others[0])
                votes[rule] += not _has_number(rule)
    rule, count = votes.most_common(1)[0] if votes else (("", ""), 0)
    return rule if count else None


def _by_end(names: Iterable[str], count: int) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(".".join(name.split(".")[-count:]), []).append(name)
    return found


def _rule(old: str, new: str) -> tuple[str, str]:
    """Return both prefixes that are left when everything that both names end with is taken away."""
    before, after = old.split("."), new.split(".")
    while before and after and before[-1] == after[-1]:
        before.pop()
        after.pop()
    return ".".join(before), ".".join(after)


def _has_number(rule: tuple[str, str]) -> bool:
    """Say whether a rule would make one layer into another."""
    before, after = (one.split(".") for one in rule)
    while before and after and before[0] == after[0]:
        before.pop(0)
        after.pop(0)
    return any(one.isdigit() for one in (*before, *after))


def _renamed(name: str, rule: tuple[str, str]) -> str | None:
    before, after = rule
    if before and not name.startswith(f"{before}."):
        return None
    rest = name.removeprefix(f"{before}.") if before else name
    return f"{after}.{rest}" if after else rest


def _fits(old: Shape, new: Shape) -> bool:
    """Say whether two tensors can be one: equal shapes, or matrices of which rows were added or cut."""
    return old == new or (len(old) == len(new) == 2 and old[1] == new[1])
