"""Checks of vocabulary rows: were the rows of tokens in use ever trained?

Knows no tensor beside the two vocabulary matrices.
"""

from collections.abc import Iterator

from service.audit.check import AdapterView, BaseView, Outcome, fatal, note, skipped, warning
from service.audit.usage import (
    UntrainedToken,
    doubtful_tokens,
    idle_tokens,
    initial_state,
    is_tied,
    replaced_tokens,
    untrained_tokens,
    used_new_tokens,
)
from service.domain.facts import BaseFacts, MatrixFacts

PICTURE_MARKERS = ("image_start_token", "image_end_token")
"""Tokens that every prompt with a picture holds."""
RARE_MARKERS = ("slice_start_token", "slice_end_token", "image_id_start_token", "image_id_end_token")
"""Tokens that prompts hold if pictures are large or numbered."""


def base_trained_rows(view: BaseView) -> Iterator[Outcome]:
    """Look at the input rows of tokens that prompts hold, and at the output row of the one that ends answers."""
    base = view.base
    if base.tokenizer is None or base.embedding is None:
        yield skipped("needs a tokenizer and input embeddings")
        return
    if base.embedding.values.is_all_zero:
        return  # finite_weights says so
    exempt = replaced_tokens(base.claims)
    names = {token_id: text for text, token_id in _prompt_tokens(base).items() if token_id not in exempt}
    states = {one: _untrained_state(one, names, base.embedding) for one in sorted(names)}
    rare = {base.tokenizer.named.get(role) for role in RARE_MARKERS}
    written = set(base.template.control_tokens.values()) if base.template else set()
    for token_id, state in states.items():
        if state:
            is_rare = token_id in rare and token_id not in written
            yield _untrained(names[token_id], token_id, "input", state, base.embedding, is_rare=is_rare)
    if idle := {one: text for one, text in idle_tokens(base).items() if one not in names}:
        shown = ", ".join(f"{text} (id {one})" for one, text in list(idle.items())[:5])
        yield note(
            f"{len(idle)} added token(s) that prompts do not need have rows from before training, first {shown}",
            {"tokens": {text: one for one, text in list(idle.items())[:50]}, "count": len(idle)},
            "If a client writes them, the model reads noise; their use is counted.",
        )
    if doubtful := doubtful_tokens(base):
        yield _doubtful(doubtful, base)
    turn_end = base.template.turn_end_id if base.template else None
    if turn_end is None or turn_end not in names or is_tied(base) or base.head is None:
        return
    if not base.head.values.is_all_zero and (state := _untrained_state(turn_end, names, base.head)):
        yield _untrained(names[turn_end], turn_end, "output", state, base.head, is_rare=False)


def adapter_trained_rows(view: AdapterView) -> Iterator[Outcome]:
    """Look for tokens that the adapter's tokenizer adds and whose rows nobody trained."""
    base, adapter = view.base, view.adapter
    if base.tokenizer is None or base.embedding is None:
        yield skipped("needs the base's tokenizer and input embeddings")
        return
    rows = max(base.embedding.num_rows, (adapter.embedding_update and adapter.embedding_update.num_rows) or 0)
    untrained = [one for one in untrained_tokens(base, adapter) if one.token_id < rows]  # others: rows_cover_ids
    used = [one for one in untrained if not one.is_reserved]
    if dead := [one for one in used if not one.is_input_trained]:
        yield fatal(
            f"the adapter's tokenizer adds {_names(dead)}, but nobody trained their input rows",
            {"tokens": [one.evidence() for one in dead]},
            "The model reads them as noise and never writes them: prompts and answers that need them are wrong.",
            "Retrain with the rows trainable: " + _training_advice([one.token_id for one in dead]),
        )
    if mute := [one for one in used if one.is_input_trained and not one.is_output_trained]:
        yield warning(
            f"the adapter trained input rows of {_names(mute)}, but not their output rows",
            {"tokens": [one.evidence() for one in mute]},
            "The model can read these tokens but hardly ever write them.",
            "If answers should contain them, retrain with lm_head rows too: "
            + _training_advice([one.token_id for one in mute]),
        )
    if idle := [one for one in untrained if one.is_reserved]:
        yield note(
            f"the adapter's tokenizer adds {_names(idle)}, which nobody trained and, by their names, nobody uses",
            {"tokens": [one.evidence() for one in idle]},
        )
    if not untrained and (new := used_new_tokens(adapter)):
        yield note(f"{len(new)} new tokens, all with trained rows", {"tokens": new})


def _prompt_tokens(base: BaseFacts) -> dict[str, int]:
    """Return the tokens that template and processor write into prompts, with their ids."""
    tokens = dict(base.template.control_tokens) if base.template else {}
    if base.tokenizer:
        for role in (*PICTURE_MARKERS, *RARE_MARKERS):
            token_id = base.tokenizer.named.get(role)
            if token_id is not None:
                tokens[base.tokenizer.texts[role]] = token_id
    return tokens


def _untrained_state(token_id: int, names: dict[int, str], matrix: MatrixFacts) -> str | None:
    """Recognise a row that is zero, a copy of another, or as `resize_token_embeddings` leaves it."""
    row = matrix.rows.get(token_id)
    if row is None or not row.is_finite:
        return None  # rows_cover_ids or finite_weights says so
    if state := initial_state(row):
        return state
    twin = next((one for one in names if one != token_id and _digest(one, matrix) == row.digest), None)
    return f"is the same as that of {names[twin]}" if twin is not None else None


def _digest(token_id: int, matrix: MatrixFacts) -> str | None:
    row = matrix.rows.get(token_id)
    return row.digest if row else None


def _untrained(text: str, token_id: int, which: str, state: str, matrix: MatrixFacts, *, is_rare: bool) -> Outcome:
    row = matrix.rows[token_id]
    severity, where = (warning, "some prompts") if is_rare else (fatal, "every conversation or picture")
    consequence = (
        "The model reads a token that it never learned." if which == "input" else "The model cannot end its answers."
    )
    return severity(
        f"{text} (id {token_id}) stands in {where}, but its {which} row {state}",
        {
            "token": text,
            "id": token_id,
            "matrix": matrix.tensor,
            "norm": row.norm,
            "norm_percentile": row.norm_percentile,
            "cosine_to_mean": row.cosine_to_mean,
        },
        consequence,
        "Serve a model whose row was trained, or retrain with the row trainable: " + _training_advice([token_id]),
    )


def _doubtful(tokens: dict[int, str], base: BaseFacts) -> Outcome:
    shown = ", ".join(f"{text} (id {one})" for one, text in list(tokens.items())[:5])
    spare = base.embedding.spare if base.embedding else None
    return warning(
        f"the rows of {len(tokens)} added token(s) look like the {spare.num_rows if spare else 0} rows that no token "
        f"has, first {shown}",
        {"tokens": {text: one for one, text in list(tokens.items())[:50]}, "count": len(tokens)},
        "If training added them, it did not train them: the model reads them as noise and hardly ever writes them.",
        "If prompts or answers need them, retrain with their rows trainable and merge again: "
        + _training_advice(list(tokens)[:50]),
    )


def _names(tokens: list[UntrainedToken]) -> str:
    shown = ", ".join(f"{one.text} (id {one.token_id})" for one in tokens[:5])
    return shown + (f" and {len(tokens) - 5} more" if len(tokens) > 5 else "")


def _training_advice(ids: list[int]) -> str:
    shown = str(sorted(ids))
    return f'LoraConfig(..., trainable_token_indices={{"embed_tokens": {shown}, "lm_head": {shown}}})'
