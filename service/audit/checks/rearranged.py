"""Words for tensors that hold the values that they began with in another order, or with other signs.

Knows no folder; `origin` and `saved_modules` say whose tensors they are.
"""

from collections.abc import Mapping

from service.audit.check import Outcome, fatal
from service.domain.facts import Rearrangement

CONSEQUENCES = {
    "signs": "No training turns signs and keeps sizes: these layers compute the opposite of what they learned.",
    "colours": "Red, green and blue change places in every picture, which still looks like one: colours are named "
    "wrongly, and small print is lost.",
    "positions": "Every piece of a picture is taken for another one: what is left and right, or above and below, is "
    "wrong.",
}
REPAIR = (
    "Copy these tensors from the base model's files; if they were trained, convert again from the training checkpoint."
)


def rearranged(found: Mapping[str, Rearrangement], others: str) -> list[Outcome]:
    """Say so, once for each kind.

    Args:
        found: By tensor.
        others: Whose tensors they are compared with, such as `the base's`.
    """
    outcomes = []
    for kind, consequence in CONSEQUENCES.items():
        mine = {name: one for name, one in found.items() if one.kind == kind}
        if not mine:
            continue
        name, first = next(iter(mine.items()))
        outcomes.append(
            fatal(
                f"{len(mine)} tensor(s) hold {others} values rearranged, first {name}: {first.shown} "
                f"(turned by {first.turn:.4f}, of which {first.left:.4f} would be left)",
                {
                    "tensors": {
                        key: {"turn": round(one.turn, 4), "left": round(one.left, 4), "share": round(one.share, 4)}
                        for key, one in list(mine.items())[:50]
                    },
                    "count": len(mine),
                },
                consequence,
                REPAIR,
            )
        )
    return outcomes
