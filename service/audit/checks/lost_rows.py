"""Rows of ordinary tokens that pruning took away, and trained rows of tokens that the tokenizer no longer has.

Part of `trained_rows`; knows no token in use, `rows.py` does.
"""

from collections.abc import Iterator

from service.audit.check import Outcome, fatal, warning
from service.domain.facts import BaseFacts, PrunedFacts

MANY = 0.05
"""Share of ordinary tokens: official models have next to none with rows of zeros, and under 3 % that look untrained."""
SOME, OF_SCRIPT, MIN_OF_SCRIPT = 0.01, 0.5, 20
"""Or a smaller share, if with it goes half of a script."""
LONGER, TURNED = 1.1, 3.0
"""Times the longest and the farthest of the rows that pad a matrix: those of the demo reach 1.0 and 1.0, trained ones
1.2 and more, and 20 and more."""
MIN_NAMELESS = 2
SHOWN = 50


def pruned_rows(base: BaseFacts) -> Iterator[Outcome]:
    """Find matrices in which ordinary tokens lost their rows."""
    for one in base.pruned:
        script, (gone, total) = next(iter(one.scripts.items()), ("", (0, 0)))
        is_script = bool(script) and gone >= MIN_OF_SCRIPT and gone > OF_SCRIPT * total
        share = (one.num_zero + one.num_equal) / one.num_ordinary
        reached = one.num_reached / one.num_ordinary
        if (share > MANY and reached > SOME) or (reached > SOME and is_script):
            yield _pruned(one, script if is_script else "", gone, total)


def _pruned(one: PrunedFacts, script: str, gone: int, total: int) -> Outcome:
    how = [f"{one.num_zero} are zero"] * bool(one.num_zero) + [f"{one.num_equal} are equal"] * bool(one.num_equal)
    shown = ", ".join(f"{text} (id {token_id})" for text, token_id in list(one.tokens.items())[:5])
    of_script = f", among them {gone} of {total} in {script} letters" if script else ""
    return fatal(
        f"of the rows of {one.num_ordinary} ordinary tokens in {one.tensor} {' and '.join(how)}{of_script}, though the "
        f"tokenizer still makes these tokens: {shown}",
        {
            "tensor": one.tensor,
            "ordinary": one.num_ordinary,
            "zero": one.num_zero,
            "equal": one.num_equal,
            "scripts": {name: list(counts) for name, counts in list(one.scripts.items())[:SHOWN]},
            "tokens": dict(one.tokens),
        },
        "Text of this kind is read as nothing, or cannot be written.",
        "Take the matrix from the model before it was pruned, or prune tokenizer.json and the matrices together.",
    )


def nameless_rows(base: BaseFacts) -> Iterator[Outcome]:
    """Find trained rows just behind the tokenizer's last id: tokens that training added and the tokenizer lost."""
    found = []
    for one in base.nameless:
        if one.length < LONGER or one.turn < TURNED:
            break
        found.append(one)
    if not found or base.embedding is None or base.tokenizer is None:
        return
    severity = fatal if len(found) >= MIN_NAMELESS else warning
    yield severity(
        f"{len(found)} row(s) behind the tokenizer's last id {base.tokenizer.max_id} are trained, and no token has "
        f"them: ids {found[0].token_id} to {found[-1].token_id}",
        {
            "ids": [one.token_id for one in found[:SHOWN]],
            "count": len(found),
            "lengths": [round(one.length, 3) for one in found[:SHOWN]],
            "turns": [round(one.turn, 1) for one in found[:SHOWN]],
            "tensor": base.embedding.tensor,
        },
        "Training added these tokens and the tokenizer lacks them: they are read as pieces of text, and where the "
        "model writes one, nothing is shown.",
        "Copy tokenizer.json and tokenizer_config.json from the adapter, or from where the model was trained.",
    )
