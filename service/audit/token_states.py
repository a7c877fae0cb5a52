"""Puts together tokens in use and the states of their rows, for the base and for an adapter.

Knows no severity.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from service.audit.check import AdapterView, BaseView
from service.audit.degree import exposure, read_degree, written_degree
from service.audit.new_tokens import NewToken, adapter_new_tokens, origin_new_tokens
from service.audit.row_states import (
    MIN_TURN,
    initial_state,
    is_as_long,
    is_as_turned,
    is_drawn_anew,
    is_lone_fresh,
    look_fresh,
    looks_unused,
)
from service.audit.usage import (
    FAMILY,
    READ,
    REPLACED,
    WRITTEN,
    Use,
    adapter_uses,
    base_uses,
    is_tied,
    late_tokens,
    replaced_tokens,
)
from service.domain.facts import BaseFacts, CorpusFacts, MatrixFacts, OriginFacts, RowFacts, RowUpdate
from service.domain.facts.rows import BEHIND
from service.domain.judgement import Degree, UsedToken

TRAINED, UNTRAINED, SUSPICIOUS, UNKNOWN, EXEMPT = "trained", "untrained", "suspicious", "unknown", "exempt"
BAD = (UNTRAINED, SUSPICIOUS)
DRAWN_ANEW = "is a fresh random one, and so is the {other} row: as long as those, and unrelated to all trained rows"
EXACT_MEAN = 0.99999
"""Rows that resizing draws around the mean have this cosine with it even in bfloat16."""


@dataclass(frozen=True, slots=True)
class TokenState:
    """One token in use with the states of both rows.

    Attributes:
        use: The token.
        input_state: As `UsedToken` has it.
        output_state: Likewise.
        input_reason: What the input row looks like, as the end of a sentence; empty if it is sound.
        output_reason: The same for the output row.
    """

    use: Use
    input_state: str
    output_state: str
    input_reason: str = ""
    output_reason: str = ""


def base_states(base: BaseFacts) -> dict[int, TokenState]:
    """Judge the rows of every token that the base uses by themselves, by id."""
    uses = base_uses(base)
    doubtful = doubtful_tokens(base)
    states = {}
    for token_id, use in uses.items():
        input_state, input_reason = _input_state(use, uses, base)
        output_state, output_reason = _output_state(use, uses, base)
        if token_id in doubtful and input_state == TRAINED:
            input_state, input_reason = SUSPICIOUS, doubtful[token_id]
        states[token_id] = TokenState(use, input_state, output_state, input_reason, output_reason)
    return states


def astray_tokens(states: Mapping[int, TokenState], base: BaseFacts) -> list[TokenState]:
    """Return the tokens of every prompt whose ids have the rows of tokens that no text holds, in both matrices.

    Rows behind all tokens do not count as such: those of a resize may be as long as trained ones.
    """
    rows = base.embedding.rows if base.embedding else {}
    return [
        one
        for token_id, one in states.items()
        if one.input_state == SUSPICIOUS
        and one.use.is_constant
        and _rows_look_unused(token_id, base)
        and is_as_long(rows.get(token_id), base.embedding, leaving_out=(BEHIND,))
    ]


def _input_state(use: Use, uses: dict[int, Use], base: BaseFacts) -> tuple[str, str]:
    if REPLACED in use.roles or READ not in use.roles:
        return EXEMPT, ""
    row = base.embedding.rows.get(use.token_id) if base.embedding else None
    state = _alone(use, uses, base, base.embedding, row)
    if state[0] != UNTRAINED and (use.is_constant or use.is_switched) and is_drawn_anew(use.token_id, base):
        return UNTRAINED, DRAWN_ANEW.format(other="output")
    if state[0] != TRAINED or not (use.is_constant and base.embedding):
        return state
    head = base.head or base.embedding
    turn_end = next((one for one, other in uses.items() if other.is_turn_end), None)
    if turn_end is None or not _rows_look_unused(use.token_id, base):
        return state
    if is_as_long(base.embedding.rows.get(turn_end), base.embedding):
        return state  # training has not moved lengths, so that they tell nothing
    return SUSPICIOUS, f"and its row in {head.tensor} look like those of tokens that no text holds"


def _output_state(use: Use, uses: dict[int, Use], base: BaseFacts) -> tuple[str, str]:
    if WRITTEN not in use.roles:
        return EXEMPT, ""
    matrix = base.head or base.embedding
    row = matrix.rows.get(use.token_id) if matrix else None
    state = _alone(use, uses, base, matrix, row)
    if state[0] != UNTRAINED and use.is_turn_end and is_drawn_anew(use.token_id, base):
        return UNTRAINED, DRAWN_ANEW.format(other="input")
    if state[0] in BAD and not use.is_turn_end and row and row.norm > 0:
        state = TRAINED, ""  # output rows that are hardly ever written share a direction, and so the mean
    if state[0] == TRAINED and matrix and is_as_turned(row, matrix):
        return SUSPICIOUS, "looks like those of tokens that are never written"
    return state


def _alone(
    use: Use, uses: dict[int, Use], base: BaseFacts, matrix: MatrixFacts | None, row: RowFacts | None
) -> tuple[str, str]:
    """Recognise a row that is zero, a copy of another, or as `resize_token_embeddings` leaves it."""
    if matrix is None or row is None or base.tokenizer is None:
        return UNKNOWN, ""
    if not row.is_finite:
        return UNTRAINED, ""  # finite_weights says so
    if reason := initial_state(row, matrix):
        return UNTRAINED, reason
    if not (use.is_constant or use.is_rare):
        return TRAINED, ""
    near = [one for one, other in uses.items() if other.is_constant or other.is_rare]
    twins = [
        one for one in near if one != use.token_id and one in matrix.rows and matrix.rows[one].digest == row.digest
    ]
    twins += [one for one in row.twins if one <= base.tokenizer.max_id]
    if twins and use.is_constant:
        other = uses.get(twins[0])
        return UNTRAINED, f"is the same as that of {other.text if other else f'id {twins[0]}'}"
    spare = [one for one in row.twins if one > base.tokenizer.max_id]
    if use.is_constant and len(spare) == 1 and BEHIND in matrix.unused and is_as_long(row, matrix):  # else padding
        return UNTRAINED, f"is the same as that of id {spare[0]}, which no text reaches"
    if use.is_constant and is_lone_fresh(row, matrix, base):
        return SUSPICIOUS, "is as long as a fresh random one, and nearly no other row is"
    return TRAINED, ""


def _rows_look_unused(token_id: int, base: BaseFacts) -> bool:
    head = base.head or base.embedding
    if base.embedding is None or head is None:
        return False
    return looks_unused(base.embedding.rows.get(token_id), base.embedding, head.rows.get(token_id), head)


def idle_tokens(base: BaseFacts) -> dict[int, str]:
    """Find the base's own added tokens whose input rows are as they were before training, by id."""
    if base.embedding is None or base.tokenizer is None or base.embedding.values.is_all_zero:
        return {}
    exempt = {
        one for claim in base.claims if claim.role in ("pad_token", "bos_token", "unk_token") for one in claim.token_ids
    } | replaced_tokens(base.claims)
    rows = base.embedding.rows
    ids = {one.token_id: text for text, one in base.tokenizer.added.items() if one.token_id not in exempt}
    return {one: text for one, text in sorted(ids.items()) if one in rows and initial_state(rows[one], base.embedding)}


def raw_late_tokens(base: BaseFacts) -> dict[int, str]:
    """Find late tokens of a folder whose rows are exactly at an initial state, by id, with that state.

    Tokens that the family's producers add are left out: some of them no model ever learned.
    """
    if base.embedding is None or base.embedding.values.is_all_zero:
        return {}
    found = {}
    for token_id, text in late_tokens(base).items():
        row = base.embedding.rows.get(token_id)
        if row and not FAMILY.fullmatch(text) and (state := initial_state(row, base.embedding)):
            found[token_id] = state
    return found


def doubtful_tokens(base: BaseFacts) -> dict[int, str]:
    """Find late tokens of a folder that look as if nobody trained them, by id, with what they look like.

    What is left to see in a merged folder: rows like those that no text reaches, by length in the input matrix, by
    length and direction in the output matrix; rows that are copies of another; rows as long as fresh random ones.
    Nothing is claimed where the token that ends answers looks so too, where there are no unused rows, or where these
    have no direction in common.
    """
    turn_end = base.template.turn_end_id if base.template else None
    embedding = base.embedding
    if embedding is None or turn_end is None or _rows_look_unused(turn_end, base):
        return {}
    late = {one: text for one, text in late_tokens(base).items() if one not in raw_late_tokens(base)}
    found = {one: "look like those that no text reaches" for one in late if _rows_look_unused(one, base)}
    own = {one: text for one, text in late.items() if one not in found and not FAMILY.fullmatch(text)}
    known = base.tokenizer.max_id if base.tokenizer else -1
    for one in own:
        row = embedding.rows.get(one)
        twins = [other for other in row.twins if other <= known] if row else []
        if twins:
            found[one] = f"are copies (of id {twins[0]})"
    rest = [embedding.rows.get(one) for one in own if one not in found]
    heads = [base.head.rows.get(one) for one in own if one not in found] if base.head else rest
    is_fresh = look_fresh(rest, embedding.hidden_size, base) and look_fresh(heads, embedding.hidden_size, base)
    return found | ({one: "are as long as fresh random ones" for one in own if one not in found} if is_fresh else {})


def mute_late_tokens(base: BaseFacts) -> dict[int, str]:
    """Find late tokens whose input rows are trained and whose output rows are zero, or the mean to the last digit.

    Output rows that are hardly ever written come near the mean by themselves, but not so near.
    """
    head = base.head
    if head is None or base.embedding is None or is_tied(base):
        return {}
    bad = raw_late_tokens(base).keys() | doubtful_tokens(base).keys()
    found = {}
    for token_id, text in late_tokens(base).items():
        row = head.rows.get(token_id)
        if row is None or token_id in bad or FAMILY.fullmatch(text) or not row.is_finite:
            continue
        state = initial_state(row, head)
        if state and (row.cosine_to_mean > EXACT_MEAN or "mean" not in state):
            found[token_id] = state
    return found


def used_tokens(view: BaseView | AdapterView) -> tuple[UsedToken, ...]:
    """Return the table of every token in use, ascending by id."""
    if isinstance(view, BaseView):
        states, corpus = base_states(view.base), view.base.corpus
        new = {one.use.token_id: one for one in origin_new_tokens(view.base, view.origin)} if view.origin else {}
        trainer = {one: "tuning" for one, turn in _turns(view.origin).items() if turn > MIN_TURN}
    else:
        states, corpus = adapter_states(view), view.adapter.corpus
        new = {one.use.token_id: one for one in adapter_new_tokens(view.base, view.adapter)}
        updates = [one for one in (view.adapter.embedding_update, view.adapter.head_update) if one]
        trainer = {one: "adapter" for update in updates for one, turn in update.turns.items() if turn > MIN_TURN}
    return tuple(
        _used_token(state, view.base, corpus, new.get(one), trainer.get(one, "base"))
        for one, state in sorted(states.items())
    )


def adapter_states(view: AdapterView) -> dict[int, TokenState]:
    """Judge the rows of every token in use as the adapter leaves them, by id."""
    base, adapter = view.base, view.adapter
    of_base = base_states(base)
    states = {}
    for token_id, use in adapter_uses(base, adapter).items():
        known = of_base.get(token_id)
        input_state, input_reason = _changed_state(use, adapter.embedding_update, base.embedding, READ)
        output_state, output_reason = _changed_state(use, adapter.head_update, base.head or base.embedding, WRITTEN)
        states[token_id] = TokenState(
            use,
            input_state or (known.input_state if known else TRAINED),
            output_state or (known.output_state if known else TRAINED),
            input_reason or (known.input_reason if known else ""),
            output_reason or (known.output_reason if known else ""),
        )
    return states


def _changed_state(use: Use, update: RowUpdate | None, matrix: MatrixFacts | None, role: str) -> tuple[str, str]:
    """Judge a row that an adapter replaces; nothing if it leaves the base's."""
    if REPLACED in use.roles or role not in use.roles:
        return EXEMPT, ""
    row = update.rows.get(use.token_id) if update else None
    before = matrix.rows.get(use.token_id) if matrix else None
    if row is None or (before and before.digest == row.digest):
        return "", ""
    if not row.is_finite:
        return UNTRAINED, ""
    state = initial_state(row, matrix)
    if state and role == WRITTEN and "mean" in state:
        return TRAINED, ""
    return (UNTRAINED, state) if state else (TRAINED, "")


def _used_token(
    state: TokenState, base: BaseFacts, corpus: CorpusFacts | None, new: NewToken | None, trainer: str
) -> UsedToken:
    use = state.use
    input_state, output_state = state.input_state, state.output_state
    if new:
        input_state = input_state if new.is_input_trained else UNTRAINED
        output_state = output_state if new.is_output_trained else UNTRAINED
    degree: Degree | None = None
    if input_state in BAD:
        degree = read_degree(use, corpus, is_added=new is not None)
    elif output_state in BAD:
        degree = written_degree(use, corpus, is_meant=new is not None and new.is_writing_meant)
        degree = degree if new or use.is_turn_end else Degree.HARMLESS
    rows = base.embedding.num_rows if base.embedding else 0
    trained = {UNTRAINED: "nobody", TRAINED: trainer}
    return UsedToken(
        token_id=use.token_id,
        text=use.text,
        sources=tuple(sorted(use.sources)),
        roles=tuple(sorted(use.roles)),
        has_input_row=0 <= use.token_id < rows,
        has_output_row=0 <= use.token_id < (base.head.num_rows if base.head else rows),
        input_state=input_state,
        output_state=output_state,
        trained_by=trained.get(input_state if input_state != EXEMPT else output_state, "unknown"),
        degree=degree,
        exposure=exposure(use.token_id, corpus),
    )


def _turns(origin: OriginFacts | None) -> dict[int, float]:
    if origin is None:
        return {}
    return {one: max(turn, origin.head_turns.get(one, 0.0)) for one, turn in origin.embedding_turns.items()}
