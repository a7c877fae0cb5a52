"""Check of vocabulary rows that were trained: do they stand where they belong, as training left them?

Knows no row that was never trained; `rows.py` does.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from service.audit.check import AdapterView, BaseView, Check, Outcome, fatal, warning
from service.audit.row_states import UNRELATED, broken_length, initial_state, is_clear, odd_length
from service.audit.usage import REPLACED, Use, adapter_uses, base_uses, is_tied, used_new_tokens
from service.domain.facts import MatrixFacts, OriginFacts, RowFacts

FLIPPED = 1.5
"""1 minus the cosine with the row before: training does not turn a row against itself."""
RESCALED = 8.0
"""Times as long or as short as the row before."""
CERTAIN_LEAD = 0.3
"""By how much another place of a matrix must fit better for certainty."""
CERTAIN_FACTOR = 2.0
"""Or how many times as well as any other place."""
MAX_SINGLE = 3
"""More rows that differ are one finding about the matrix."""
SHOWN = 5
REPAIR = "Copy the matrix again from where it was trained, or from the base model if it was frozen there."
CONSEQUENCE = {
    "input": "The model reads the token as another one, or as noise.",
    "output": "The model writes the token at every step, or never.",
}
WHY = """\
A row can be trained and wrong all the same. A tool that edits a tokenizer moves ids but not rows, so that the whole
matrix is off by one; a merge mixes up two rows; a cast or a scale that was applied twice makes one row a thousand times
as long as the others; a sign is lost in a conversion. Nothing is zero, nothing is missing, every shape fits, and the
model reads one token as another.

By themselves matrices show lengths that training never makes, and whether input and output matrix number their rows
alike: a token that is rare in training has a short input row, and an output row near those of tokens that never occur,
so both sides line up at equal ids and nowhere else. With `--base`, and for the rows of an adapter, each row is compared
with the one before: turned against itself, unrelated although it had been trained, rescaled, or equal to the row of
another token.
"""


@dataclass(frozen=True, slots=True)
class _Side:
    """One matrix before and after, with how far its rows turned."""

    name: str
    after: Mapping[int, RowFacts]
    turns: Mapping[int, float]
    before: MatrixFacts


def base_row_health(view: BaseView) -> Iterator[Outcome]:
    """Look at lengths and places of rows, and compare them with those of the origin."""
    base = view.base
    uses = base_uses(base)
    yield from _shifted(base.head)
    for side, matrix in (("input", base.embedding), ("output", None if is_tied(base) else base.head)):
        if matrix and not matrix.values.is_all_zero:
            yield from _lengths(matrix, uses, side)
    origin = view.origin
    if origin is None or origin.base.tokenizer is None or base.tokenizer is None or _is_unrelated(origin):
        return
    known = origin.base.tokenizer.vocabulary
    same = {one: use for one, use in uses.items() if known.get(use.text) == one}
    sides = [("input", base.embedding, origin.base.embedding, origin.embedding_turns)]
    if not is_tied(base):
        sides.append(("output", base.head, origin.base.head, origin.head_turns))
    for name, after, before, turns in sides:
        if after and before:
            found = list(_compared(_Side(name, after.rows, turns, before), same, "the origin's"))
            yield from found or _mixed_up(name, after, origin)


def adapter_row_health(view: AdapterView) -> Iterator[Outcome]:
    """Compare the rows in use that an adapter replaces with the base's."""
    base, adapter = view.base, view.adapter
    new = set(used_new_tokens(adapter).values())
    uses = {one: use for one, use in adapter_uses(base, adapter).items() if one not in new}
    for name, update, matrix in (
        ("input", adapter.embedding_update, base.embedding),
        ("output", adapter.head_update, base.head or base.embedding),
    ):
        if update is None or matrix is None or update.kind == "lora":
            continue  # what low-rank factors add, they add to every row
        yield from _compared(_Side(name, update.rows, update.turns, matrix), uses, "the base's")
        long = {one: row for one, row in update.rows.items() if one in new and broken_length(row.norm, matrix)}
        if long:
            token_id, row = next(iter(long.items()))
            text = next(text for text, one in adapter.new_tokens.items() if one == token_id)
            yield _too_long(text, token_id, name, row.norm, matrix, is_certain=True)


def _shifted(head: MatrixFacts | None) -> Iterator[Outcome]:
    shift = head.shift if head else None
    if head is None or shift is None:
        return
    is_certain = shift.fit - shift.fit_now >= CERTAIN_LEAD or shift.fit >= CERTAIN_FACTOR * shift.rival
    severity = fatal if is_certain else warning
    yield severity(
        f"the rows of the input matrix fit those of {head.tensor} at ids that are {abs(shift.rows)} "
        f"{'higher' if shift.rows > 0 else 'lower'} (rank correlation {shift.fit:.2f}, at equal ids "
        f"{shift.fit_now:.2f})",
        {"shift": shift.rows, "fit": shift.fit, "fit_at_equal_ids": shift.fit_now, "measure": shift.measure},
        "One matrix was moved: the model reads every token as a neighbour of it, or writes it so.",
        REPAIR,
    )


def _lengths(matrix: MatrixFacts, uses: Mapping[int, Use], side: str) -> Iterator[Outcome]:
    norms = matrix.norms
    if norms is None:
        return
    judged = set()
    for token_id, use in sorted(uses.items()):
        row = matrix.rows.get(token_id)
        if (
            row is None
            or not row.is_finite
            or (side == "input" and REPLACED in use.roles)
            or initial_state(row, matrix)
        ):
            continue
        judged.add(token_id)
        if broken_length(row.norm, matrix):
            yield _too_long(use.text, token_id, side, row.norm, matrix, is_certain=use.is_constant or side == "output")
        elif (odd := odd_length(row.norm, matrix)) and (use.is_constant or use.is_rare):
            yield warning(
                f"the {side} row of {use.text} (id {token_id}) {odd}",
                {"token": use.text, "id": token_id, "norm": row.norm, "median": norms.median, "high": norms.high},
                "If training did not make it so, the model reads or writes the token wrongly.",
                REPAIR,
            )
    if norms.longest_id not in judged | uses.keys() and broken_length(norms.longest, matrix):
        yield _too_long("", norms.longest_id, side, norms.longest, matrix, is_certain=side == "output")


def _compared(side: _Side, uses: Mapping[int, Use], whose: str) -> Iterator[Outcome]:
    """Compare rows in use with those before; where many differ, the whole matrix is meant."""
    owners = {row.digest: one for one, row in side.before.rows.items() if row.norm > 0}
    found: list[tuple[Use, str, dict[str, Any]]] = []
    for token_id, use in sorted(uses.items()):
        after, before = side.after.get(token_id), side.before.rows.get(token_id)
        if after is None or before is None or after.digest == before.digest or REPLACED in use.roles:
            continue
        if not (after.is_finite and before.is_finite) or initial_state(after, side.before) or before.norm == 0:
            continue
        if different := _difference(after, before, side, token_id, owners):
            why, more = different
            numbers = {"token": use.text, "id": token_id, "norm": after.norm, "norm_before": before.norm, **more}
            found.append((use, why.format(whose=whose), numbers))
    if len(found) > MAX_SINGLE:
        names = ", ".join(f"{use.text} (id {use.token_id})" for use, _, _ in found[:SHOWN])
        yield fatal(
            f"the {side.name} rows of {len(found)} tokens in use are not {whose}, first {names}; that of "
            f"{found[0][0].text} {found[0][1]}",
            {"rows": [numbers for _, _, numbers in found[:50]], "count": len(found)},
            "The matrix was moved, mixed up or taken from another model: tokens are read or written as others.",
            REPAIR,
        )
        return
    for use, why, numbers in found:
        yield (fatal if _matters(use, side.name) else warning)(
            f"the {side.name} row of {use.text} (id {use.token_id}) {why}", numbers, CONSEQUENCE[side.name], REPAIR
        )


def _mixed_up(name: str, matrix: MatrixFacts, origin: OriginFacts) -> Iterator[Outcome]:
    """Find rows that are of the same kind as before, but of other tokens."""
    turn = origin.strangest_blocks.get(matrix.tensor, 0.0)
    change = origin.changed.get(matrix.tensor)
    if change is None or change.turn > UNRELATED or turn <= UNRELATED:
        return  # a matrix that has nothing at all in common with the origin's is `origin`'s matter
    yield fatal(
        f"{name} rows of {matrix.tensor} have nothing in common with the origin's at the same ids but what all rows "
        f"share (cosine without it {1 - turn:.2f})",
        {"tensor": matrix.tensor, "turn_without_mean": round(turn, 4), "turn": round(change.turn, 4)},
        "The matrix was moved or mixed up: tokens are read or written as others.",
        REPAIR,
    )


def _difference(
    after: RowFacts, before: RowFacts, side: _Side, token_id: int, owners: Mapping[str, int]
) -> tuple[str, dict[str, float | int]] | None:
    """Say how a row differs from the one before by more than training makes it, with numbers; None if it does not."""
    owner = owners.get(after.digest)
    if owner is not None and owner != token_id:
        return f"is {{whose}} row of id {owner}", {"equals": owner}
    turn = side.turns.get(token_id, 0.0)
    if turn > FLIPPED:
        return f"points away from {{whose}} (cosine {1 - turn:.2f})", {"turn": turn}
    if turn > UNRELATED and is_clear(before, side.before):  # it was trained, so it is not the same row any more
        return f"has nothing to do with {{whose}}, which was trained (cosine {1 - turn:.2f})", {"turn": turn}
    scale = after.norm / before.norm
    is_odd = bool(odd_length(after.norm, side.before)) and not odd_length(before.norm, side.before)
    if is_odd and not 1 / RESCALED < scale < RESCALED:
        return f"is {scale:.3g} times as long as {{whose}}", {"scale": scale}
    return None


def _matters(use: Use, side: str) -> bool:
    return use.is_constant if side == "input" else use.is_turn_end


def _too_long(text: str, token_id: int, side: str, norm: float, matrix: MatrixFacts, *, is_certain: bool) -> Outcome:
    median = matrix.norms.median if matrix.norms else 0.0
    return (fatal if is_certain else warning)(
        f"the {side} row of {text or 'a token'} (id {token_id}) is {norm / median:.3g} times as long as the median row",
        {"token": text, "id": token_id, "matrix": matrix.tensor, "norm": norm, "median": median},
        CONSEQUENCE[side],
        REPAIR,
    )


def _is_unrelated(origin: OriginFacts) -> bool:
    """Say whether most of the whole model has nothing in common with the origin, which `origin` says."""
    strange = sum(one.turn > UNRELATED for one in origin.changed.values())
    return strange > len(origin.changed) / 2


CHECK = Check(
    "row_health",
    "Trained rows are where and as training left them",
    base_row_health,
    adapter_row_health,
    why=WHY,
)
