"""Says of tokens that training added whether it also trained their rows.

Pure arithmetic on facts; what follows from it is decided in `checks/rows.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from service.audit.row_states import MIN_TURN, UNRELATED, are_scattered, initial_state, look_fresh, same_rows
from service.audit.usage import (
    ADAPTER,
    READ,
    RESERVED,
    VOCABULARY,
    WRITTEN,
    WRITTEN_MARKS,
    Use,
    is_tied,
    replaced_tokens,
    tokens_lacking,
    used_new_tokens,
)
from service.domain.facts import AdapterFacts, BaseFacts, MatrixFacts, OriginFacts, RowUpdate

SAME_REASON = "is the same for every new token"
LOST_REASONS = ("is zero", SAME_REASON)
"""Rows that no training leaves."""
ABSENT = "is not in the adapter"
STARTED = "is the mean of those of the pieces of the token's name"


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token that training added, with the state of its rows.

    Attributes:
        use: The token.
        is_input_trained: Training moved its input row away from where it began.
        is_output_trained: The same for the output row.
        input_reason: What is wrong with the input row.
        norm_percentile: Of the row that it had before training.
        output_reason: What is wrong with the output row.
        is_writing_meant: Training was told to train the output row, or the token's name is of what models write.
    """

    use: Use
    is_input_trained: bool
    is_output_trained: bool
    input_reason: str
    norm_percentile: float | None
    output_reason: str = ""
    is_writing_meant: bool = False

    @property
    def is_started(self) -> bool:
        """The input row was given a start to train from, and was not trained."""
        return self.input_reason == STARTED

    @property
    def is_absent(self) -> bool:
        """The adapter has neither row."""
        return self.input_reason == self.output_reason == ABSENT

    def evidence(self) -> dict[str, object]:
        """Return the facts as JSON."""
        return {
            "token": self.use.text,
            "id": self.use.token_id,
            "input_row_trained": self.is_input_trained,
            "output_row_trained": self.is_output_trained,
            "base_row_norm_percentile": self.norm_percentile,
        }


def adapter_new_tokens(base: BaseFacts, adapter: AdapterFacts) -> list[NewToken]:
    """Describe the tokens that the adapter's tokenizer adds, but for those that nobody reads.

    A row of a token that the base's tokenizer lacks was never trained by the base. The adapter trained it only if
    it ships the row, and the row differs from the base's and from every initial state. On a tied base PEFT applies
    trained tokens to both matrices, but `modules_to_save` and LoRA factors only to the one that they name.
    """
    head_update = adapter.head_update
    if head_update is None and is_tied(base) and adapter.embedding_update:
        head_update = adapter.embedding_update if adapter.embedding_update.kind == "trainable_tokens" else None
    head = base.head or base.embedding
    replaced = replaced_tokens(base.claims)
    new = {text: one for text, one in used_new_tokens(adapter).items() if one not in replaced}
    shared = [one for text, one in new.items() if not RESERVED.search(text)]
    known = base.tokenizer.max_id if base.tokenizer else -1
    input_reason = _common_reason(shared, adapter.embedding_update)
    output_reason = _common_reason(shared, head_update)
    found = []
    for text, token_id in sorted(new.items(), key=lambda item: item[1]):
        reason = _update_reason(token_id, adapter.embedding_update, base.embedding, known) or input_reason
        of_output = _update_reason(token_id, head_update, head, known, is_output=True) or output_reason
        row = base.embedding.rows.get(token_id) if base.embedding else None
        percentile = round(row.norm_percentile, 1) if row else None
        use = Use(token_id, text, frozenset({ADAPTER}), frozenset({READ, WRITTEN}))
        is_meant = _is_writing_meant(use, head_update, of_output)
        found.append(NewToken(use, not reason, not of_output, reason, percentile, of_output, is_meant))
    return found


def _is_writing_meant(use: Use, update: RowUpdate | None, reason: str) -> bool:
    """Say whether training was told to train a token's output row, which it or the saving then lost.

    A whole head is saved with every resized vocabulary: one whose other rows moved shows that this token was not
    written in training, which may be right.
    """
    if WRITTEN_MARKS.search(use.text):
        return True
    if update is None:
        return False
    if update.kind == "trainable_tokens":
        return use.token_id in update.turns
    return update.num_changed == 0 or reason in LOST_REASONS


def _update_reason(
    token_id: int, update: RowUpdate | None, matrix: MatrixFacts | None, known: int, *, is_output: bool = False
) -> str:
    """Say why a row that an adapter was to train is untrained; empty if it is trained."""
    if update is None:
        return ABSENT
    if token_id in update.started:
        return STARTED
    if update.turns.get(token_id, 0.0) <= MIN_TURN:
        return "is as it was before training"
    row = update.rows.get(token_id)
    if row is None:
        return ""
    if copied := [one for one in row.twins if one <= known and one != token_id]:
        return f"is a copy of that of id {copied[0]}"
    state = initial_state(row, matrix)
    if state and is_output and "mean" in state:
        return ""  # output rows of sound models share a direction
    return state or ""


def fresh_new_tokens(base: BaseFacts, adapter: AdapterFacts) -> list[int]:
    """Find new tokens whose rows are fresh random ones: as long as those, and unrelated to the base's fresh ones."""
    update = adapter.embedding_update
    if update is None or base.embedding is None:
        return []
    ids = sorted(one for text, one in used_new_tokens(adapter).items() if not RESERVED.search(text))
    before = [base.embedding.rows.get(one) for one in ids]
    is_unrelated = all(UNRELATED < update.turns.get(one, 0.0) < 2 - UNRELATED for one in ids)
    size = base.embedding.hidden_size
    is_fresh = look_fresh([update.rows.get(one) for one in ids], size, base) and look_fresh(before, size, base)
    return ids if is_unrelated and is_fresh else []


def _common_reason(ids: list[int], update: RowUpdate | None) -> str:
    """Say that all new rows are one and the same."""
    rows = [update.rows[one] for one in ids if one in update.rows] if update else []
    if len(rows) < len(ids) or not rows:
        return ""
    return SAME_REASON if same_rows(rows) else ""


def origin_new_tokens(base: BaseFacts, origin: OriginFacts) -> list[NewToken]:
    """Describe the tokens of a tuned folder that its origin's tokenizer lacks: were their rows trained in between?"""
    if origin.base.tokenizer is None or base.embedding is None:
        return []
    lacking = tokens_lacking(base, origin.base.tokenizer.vocabulary)
    replaced = replaced_tokens(base.claims)
    head = base.head or base.embedding
    head_turns = origin.embedding_turns if is_tied(base) else origin.head_turns
    common_reason = _fresh_reason([one for text, one in lacking.items() if not RESERVED.search(text)], base)
    found = []
    for text, token_id in sorted(lacking.items(), key=lambda item: item[1]):
        if token_id in replaced or token_id >= base.embedding.num_rows:
            continue
        input_reason = _moved_reason(token_id, base.embedding, origin.embedding_turns) or common_reason
        output_reason = _moved_reason(token_id, head, head_turns, is_output=True)
        row = origin.base.embedding.rows.get(token_id) if origin.base.embedding else None
        use = Use(token_id, text, frozenset({VOCABULARY}), frozenset({READ, WRITTEN}))
        percentile = round(row.norm_percentile, 1) if row else None
        is_lost = output_reason in LOST_REASONS and head_turns.get(token_id, 0.0) > MIN_TURN  # else zero padding
        is_meant = is_lost or WRITTEN_MARKS.search(text) is not None
        found.append(
            NewToken(use, not input_reason, not output_reason, input_reason, percentile, output_reason, is_meant)
        )
    return found


def _fresh_reason(ids: list[int], base: BaseFacts) -> str:
    """Say that the rows of all new tokens are fresh random ones, in length on both sides and in direction."""
    if base.embedding is None or base.head is None:
        return ""
    size = base.embedding.hidden_size
    sides = ([one.rows.get(token_id) for token_id in ids] for one in (base.embedding, base.head))
    is_fresh = all(look_fresh(rows, size, base) for rows in sides) and are_scattered(ids, base.head)
    return "is a fresh random one, and so is the output row" if is_fresh else ""


def _moved_reason(token_id: int, matrix: MatrixFacts, turns: Mapping[int, float], *, is_output: bool = False) -> str:
    row = matrix.rows.get(token_id)
    if row is None or not row.is_finite:
        return ""
    state = initial_state(row, matrix)
    if state and not (is_output and "mean" in state):
        return state
    turn = turns.get(token_id)
    return "is still the one that the origin has there" if turn is not None and turn <= MIN_TURN else ""
