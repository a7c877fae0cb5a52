"""Checks of vocabulary rows: were the rows of tokens in use ever trained?

Knows no tensor beside the two vocabulary matrices.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from service.audit.check import AdapterView, BaseView, Outcome, fatal, note, skipped, warning
from service.audit.checks.lost_rows import nameless_rows, pruned_rows
from service.audit.degree import (
    SEVERITIES,
    at_most,
    exposure_evidence,
    exposure_words,
    read_degree,
    worst,
    written_degree,
)
from service.audit.new_tokens import NewToken, adapter_new_tokens, fresh_new_tokens, origin_new_tokens
from service.audit.row_states import is_fresh_matrix
from service.audit.token_states import (
    BAD,
    SUSPICIOUS,
    UNTRAINED,
    TokenState,
    adapter_states,
    astray_tokens,
    base_states,
    doubtful_tokens,
    idle_tokens,
    mute_late_tokens,
    raw_late_tokens,
)
from service.audit.usage import is_tied, used_new_tokens
from service.domain.factors import ROWS
from service.domain.facts import AdapterFacts, BaseFacts, CorpusFacts, MatrixFacts
from service.domain.judgement import Degree

WHY = """\
A token that prompts hold, or that ends answers, must have rows that training moved: the input row is what the model
reads, the output row is what lets it write the token. Rows that nobody trained are zero, the mean of all rows (as
`resize_token_embeddings` leaves them), copies of another row, or like the rows of ids that no text can hold
("Fishing for Magikarp", Land and Bartolo, 2024). transformers warns about such tokens whenever a tokenizer has added
ones, and never looks at the rows.

What is judged is only what is in use, by its role: placeholders that picture features replace are exempt, tokens that
are only read need no output row, the token that ends answers needs both. With `--base` a row is compared with the one
that it was tuned from. How much it matters (`harmless`, `moderate`, `severe`) follows from the role, and from how
often the token occurs in the corpus that `--corpus` names.

Two more losses show in whole matrices: ordinary tokens that the tokenizer still makes and whose rows are zero or all
the same, as pruning a vocabulary leaves them, and trained rows just behind the tokenizer's last id, as a merge saved
with the base's tokenizer has them.

Source: cohere-ai/magikarp; unsloth#1024, unsloth#1273; meta-llama/llama3#77; transformers 5.23,
`modeling_utils.py`, mean_resizing.
"""

MIN_ASTRAY = 3
"""Tokens of every prompt, in a model whose end of a turn is trained, that have lost their rows by no chance."""
MUTE_REPAIR = "If answers should contain them, retrain with lm_head rows too: "


def base_trained_rows(view: BaseView) -> Iterator[Outcome]:
    """Look at the input rows of tokens that prompts hold, and at the output row of the one that ends answers."""
    base = view.base
    if base.tokenizer is None or base.embedding is None:
        yield skipped("needs a tokenizer and input embeddings")
        return
    if base.embedding.values.is_all_zero:
        return  # finite_weights says so
    made_up = list(_fresh_matrices(base))
    yield from made_up
    is_moved = bool(made_up) or (base.head is not None and base.head.shift is not None)  # what looks odd follows
    states = base_states(base)
    before = base_states(view.origin.base) if view.origin else {}
    needed = {one: state for one, state in sorted(states.items()) if _is_needed(state)}
    astray = [] if is_moved else _new_in(before, astray_tokens(states, base))
    if len(astray) >= MIN_ASTRAY:
        yield _astray(astray)
        is_moved = True
    for token_id, state in needed.items():
        old = before.get(token_id)
        was_so = old is not None and old.use.text == state.use.text and old.input_state == state.input_state
        if state.input_state in BAD and state.input_reason and not (is_moved and state.input_state == SUSPICIOUS):
            yield _bad_row(state, "input", base.embedding, was_so=was_so)
    yield from _idle(base, set(needed))
    yield from pruned_rows(base)
    if view.merge is None or not view.merge.adapter.new_tokens:  # else merge says so
        yield from nameless_rows(base)
    if view.origin:
        new = origin_new_tokens(base, view.origin)
        yield from _new_rows(
            [one for one in new if one.use.token_id not in needed],
            base.corpus,
            "the tuned model",
            is_tied=is_tied(base),
        )
    else:
        yield from _late(base)
    turn_end = next((state for state in states.values() if state.use.is_turn_end), None)
    if turn_end is None or is_tied(base) or base.head is None or base.head.values.is_all_zero:
        return
    if turn_end.output_state == SUSPICIOUS and (is_moved or turn_end.use.token_id not in base.stop_ids):
        return  # or it ends no answer, which special_ids says
    if turn_end.output_state in BAD and turn_end.output_reason:
        old = before.get(turn_end.use.token_id)
        was_so = old is not None and old.output_state == turn_end.output_state
        yield _bad_row(turn_end, "output", base.head, was_so=was_so)


def adapter_trained_rows(view: AdapterView) -> Iterator[Outcome]:
    """Look for tokens that the adapter adds without training their rows, and for rows in use that it resets."""
    base, adapter = view.base, view.adapter
    if base.tokenizer is None or base.embedding is None:
        yield skipped("needs the base's tokenizer and input embeddings")
        return
    if _are_ids_lost(adapter):
        return  # adapter_applied says that the config is lost, and with it whose rows these are
    rows = max(base.embedding.num_rows, (adapter.embedding_update and adapter.embedding_update.num_rows) or 0)
    new = adapter_new_tokens(base, adapter)
    known = [one for one in new if one.use.token_id < rows]  # others: rows_cover_ids
    yield from _new_rows(known, adapter.corpus, "the adapter", is_tied=is_tied(base))
    is_whole = all(one.is_input_trained and one.is_output_trained for one in known)
    yield from _started([one for one in known if one.is_started])
    if is_whole and (names := used_new_tokens(adapter)):
        yield note(f"{len(names)} new tokens, all with trained rows", {"tokens": names})
    if is_whole and (fresh := fresh_new_tokens(base, adapter)):
        degree = worst(read_degree(one.use, adapter.corpus, is_added=True) for one in new)
        yield _graded(
            at_most(degree, Degree.MODERATE),
            f"the rows that the adapter brings for {_names(new)} are as long as fresh random ones, and unrelated to "
            "the base's" + exposure_words(fresh, adapter.corpus),
            {"tokens": [one.evidence() for one in new], **exposure_evidence(fresh, adapter.corpus)},
            "If training did not move them, the model reads these tokens as noise.",
            "Compare with an earlier checkpoint; if they are from a resize, retrain with the rows trainable: "
            + _training_advice(fresh),
        )
    yield from _reset_rows(view, {one.use.token_id for one in new})


def _new_in(before: Mapping[int, TokenState], states: Sequence[TokenState]) -> list[TokenState]:
    """Leave out the tokens that were in this state before tuning."""
    return [
        one
        for one in states
        if (old := before.get(one.use.token_id)) is None
        or (old.use.text, old.input_state) != (one.use.text, one.input_state)
    ]


def _astray(states: Sequence[TokenState]) -> Outcome:
    ids = {one.use.text: one.use.token_id for one in states}
    shown = ", ".join(f"{text} (id {one})" for text, one in list(ids.items())[:5])
    return fatal(
        f"the ids of {len(ids)} tokens that every conversation or picture holds have the rows of tokens that no text "
        f"holds: {shown}",
        {"tokens": ids, "count": len(ids)},
        "The tokenizer's added tokens are not those of training, or are some places off: the model reads markers that "
        "it never learned.",
        "Restore the tokenizer files from the base as one set: minicpm-service repair --base BASE.",
    )


def _is_needed(state: TokenState) -> bool:
    return state.use.is_constant or state.use.is_rare or state.use.is_switched


def _are_ids_lost(adapter: AdapterFacts) -> bool:
    has_rows = any(ROWS in key for key in adapter.lora)
    return has_rows and not adapter.documents.get("adapter_config.json")


def _new_rows(new: Sequence[NewToken], corpus: CorpusFacts | None, who: str, *, is_tied: bool) -> Iterator[Outcome]:
    untrained = [one for one in new if not (one.is_started or (one.is_input_trained and one.is_output_trained))]
    used = [one for one in untrained if not one.use.is_reserved]
    if dead := [one for one in used if not one.is_input_trained]:
        degree = worst(read_degree(one.use, corpus, is_added=True) for one in dead)
        ids = [one.use.token_id for one in dead]
        yield _graded(
            degree,
            f"{who}'s tokenizer adds {_names(dead)}, but {_what_is_untrained(dead, is_tied=is_tied)}"
            + exposure_words(ids, corpus),
            {"tokens": [one.evidence() for one in dead], **exposure_evidence(ids, corpus)},
            "Untrained rows mean nothing by themselves: LoRA may have learned around them on its training data, but "
            "prompts and answers that need these tokens are not to be relied on.",
            "Retrain with the rows trainable: " + _training_advice(ids),
        )
    mute = [one for one in used if one.is_input_trained and not one.is_output_trained]
    yield from _mute([one for one in mute if one.is_writing_meant], corpus, who)
    yield from _mute([one for one in mute if not one.is_writing_meant], corpus, who)
    if idle := [one for one in untrained if one.use.is_reserved]:
        yield note(
            f"{who}'s tokenizer adds {_names(idle)}, which nobody trained and, by their names, nobody uses",
            {"tokens": [one.evidence() for one in idle]},
        )


def _what_is_untrained(dead: Sequence[NewToken], *, is_tied: bool) -> str:
    """Say which rows nobody trained, as the end of a sentence, with the reason if it is one."""
    is_one = len(dead) == 1
    its = "its" if is_one else "their"
    rows, are = ("row", "is") if is_one else ("rows", "are")
    if all(one.is_absent for one in dead):
        if is_tied:
            return f"{its} {rows} {are} not in the adapter"
        return f"neither {its} input {rows} nor {its} output {rows} {are} in the adapter"
    reasons = {one.input_reason for one in dead}
    why = f": {'it' if is_one else 'each row'} {dead[0].input_reason}" if len(reasons) == 1 else ""
    return f"nobody trained {its} input {rows}{why}"


def _started(started: Sequence[NewToken]) -> Iterator[Outcome]:
    """Warn of rows that were given a start, which the values prove even where the record of it is gone."""
    if not started:
        return
    ids = [one.use.token_id for one in started]
    rows = "the input row of {} is" if len(ids) == 1 else "the input rows of {} are"
    yield warning(
        f"{rows.format(_names(started))} the mean of the rows of the pieces of {'its' if len(ids) == 1 else 'their'} "
        f"name{'' if len(ids) == 1 else 's'}: initialised, as by repair, and not trained",
        {"ids": ids[:50], "count": len(ids), "tokens": [one.evidence() for one in started[:50]]},
        "That is a start for training, not a trained token: where prompts or answers hold it, LoRA meets a row that it "
        "was not trained with, and answers may be worse than without the start.",
        "Before serving it, train from here with the rows trainable: " + _training_advice(ids),
    )


def _mute(mute: Sequence[NewToken], corpus: CorpusFacts | None, who: str) -> Iterator[Outcome]:
    """Word tokens that the model can read and not write, all meant to be written or none."""
    if not mute:
        return
    ids = [one.use.token_id for one in mute]
    is_meant = mute[0].is_writing_meant
    reasons = {one.output_reason for one in mute}
    why = f": the output row {mute[0].output_reason}" if is_meant and len(reasons) == 1 else ""
    advice = "Retrain with lm_head rows trainable, and save them: " if is_meant else MUTE_REPAIR
    yield _graded(
        worst(written_degree(one.use, corpus, is_meant=is_meant) for one in mute),
        f"{who} trained input rows of {_names(mute)}, but not their output rows"
        + (", though training was to" if is_meant else "")
        + why
        + exposure_words(ids, corpus),
        {"tokens": [one.evidence() for one in mute], **exposure_evidence(ids, corpus)},
        "The model can read these tokens but hardly ever write them.",
        advice + _training_advice(ids),
    )


def _reset_rows(view: AdapterView, new_ids: set[int]) -> Iterator[Outcome]:
    """Find rows in use that were sound in the base and that the adapter's own rows put back to an initial state."""
    before = base_states(view.base)
    for token_id, state in sorted(adapter_states(view).items()):
        if token_id in new_ids:
            continue
        old = before.get(token_id)
        for side, now, then, reason in (
            ("input", state.input_state, old and old.input_state, state.input_reason),
            ("output", state.output_state, old and old.output_state, state.output_reason),
        ):
            if now == UNTRAINED and then not in BAD and reason:
                yield _reset(state, side, reason, view.adapter)


def _reset(state: TokenState, side: str, reason: str, adapter: AdapterFacts) -> Outcome:
    use = state.use
    degree = read_degree(use, adapter.corpus, is_added=side == "input")
    degree = degree if side == "input" else written_degree(use, adapter.corpus)
    return _graded(
        degree,
        f"the adapter replaces the {side} row of {use.text} (id {use.token_id}), which the base trained: it {reason}"
        + exposure_words([use.token_id], adapter.corpus),
        {"token": use.text, "id": use.token_id, "side": side, **exposure_evidence([use.token_id], adapter.corpus)},
        "The model reads a token that it no longer knows." if side == "input" else "The model cannot write the token.",
        "Save the adapter again from the training checkpoint; sharded training must gather the matrix before saving. "
        "If it was trained so, retrain with the row trainable: " + _training_advice([use.token_id]),
    )


def _fresh_matrices(base: BaseFacts) -> Iterator[Outcome]:
    """Find a matrix that was made up anew beside one that was trained, as a loader does if a file lacks it."""
    for matrix, other in ((base.head, base.embedding), (base.embedding, base.head)):
        if matrix and matrix.norms and not is_tied(base) and is_fresh_matrix(matrix, other, base):
            yield fatal(
                f"all rows of {matrix.tensor} are as long as fresh random ones ({matrix.norms.low:.3g} to "
                f"{matrix.norms.high:.3g}), those of {other.tensor if other else ''} are not",
                {"tensor": matrix.tensor, "low": matrix.norms.low, "high": matrix.norms.high},
                "The matrix was made up at random when a model without it was loaded and saved: answers are noise.",
                "Copy the tensor from the model that was trained; if that was tied, save it tied.",
            )


def _idle(base: BaseFacts, needed: set[int]) -> Iterator[Outcome]:
    late = set() if base.corpus is None else set(raw_late_tokens(base))
    if idle := {one: text for one, text in idle_tokens(base).items() if one not in needed | late}:
        shown = ", ".join(f"{text} (id {one})" for one, text in list(idle.items())[:5])
        yield note(
            f"{len(idle)} added token(s) that prompts do not need have rows from before training, first {shown}",
            {
                "tokens": {text: one for one, text in list(idle.items())[:50]},
                "count": len(idle),
                **exposure_evidence(idle, base.corpus),
            },
            "If a client writes them, the model reads noise; their use is counted.",
        )


def _late(base: BaseFacts) -> Iterator[Outcome]:
    """Judge tokens that stand behind all known ones: training may have added them, and the folder no longer says."""
    states = base_states(base)
    yield from _mute_late(base, states)
    for found, limit in ((raw_late_tokens(base), Degree.SEVERE), (doubtful_tokens(base), Degree.MODERATE)):
        uses = [states[one].use for one in found if one in states]
        if not uses:
            continue
        degree = worst(read_degree(use, base.corpus, is_added=True) for use in uses)
        shown = ", ".join(f"{use.text} (id {use.token_id})" for use in uses[:5])
        reason = next(iter(found.values())) if len(set(found.values())) == 1 else "are from before training"
        yield _graded(
            at_most(degree, limit),
            f"the rows of {len(uses)} added token(s) {_plural(reason)}, first {shown}"
            + exposure_words(list(found), base.corpus),
            {
                "tokens": {use.text: use.token_id for use in uses[:50]},
                "count": len(uses),
                **exposure_evidence(found, base.corpus),
            },
            "If training added them, it did not train them: the model reads them as noise and hardly ever writes them.",
            "If prompts or answers need them, retrain with their rows trainable and merge again: "
            + _training_advice([use.token_id for use in uses[:50]]),
        )


def _mute_late(base: BaseFacts, states: Mapping[int, TokenState]) -> Iterator[Outcome]:
    found = mute_late_tokens(base)
    uses = [states[one].use for one in found if one in states]
    if uses and base.head:
        shown = ", ".join(f"{use.text} (id {use.token_id})" for use in uses[:5])
        yield _graded(
            worst(written_degree(use, base.corpus) for use in uses),
            f"the rows of {len(uses)} added token(s) in {base.head.tensor} {_plural(next(iter(found.values())))}, "
            f"though their input rows are trained, first {shown}" + exposure_words(list(found), base.corpus),
            {"tokens": {use.text: use.token_id for use in uses[:50]}, "count": len(uses)},
            "The model can read these tokens; it hardly ever writes them, or writes them at random.",
            MUTE_REPAIR + _training_advice([use.token_id for use in uses[:50]]),
        )


def _plural(reason: str) -> str:
    return "are " + reason.removeprefix("is ") if reason.startswith("is ") else reason


def _bad_row(state: TokenState, side: str, matrix: MatrixFacts, *, was_so: bool) -> Outcome:
    """Word a row of a token that prompts hold or that ends answers."""
    use = state.use
    row = matrix.rows.get(use.token_id)
    kind, reason = (
        (state.input_state, state.input_reason) if side == "input" else (state.output_state, state.output_reason)
    )
    where = "some prompts" if use.is_rare else "every conversation or picture"
    where = "every prompt that switches thinking" if use.is_switched else where
    evidence = {"token": use.text, "id": use.token_id, "matrix": matrix.tensor}
    if row:
        evidence |= {
            "norm": row.norm,
            "norm_percentile": row.norm_percentile,
            "cosine_to_mean": row.cosine_to_mean,
            "cosine_to_unused": dict(row.cosine_to_unused),
            "distance_percentile": row.distance_percentile,
        }
    message = f"{use.text} (id {use.token_id}) stands in {where}, but its {side} row {reason}"
    if was_so:
        return note(message + ", and so it is in the base that it was tuned from", evidence)
    consequence = (
        "The model reads a token that it never learned." if side == "input" else "The model cannot end its answers."
    )
    repair = "Serve a model whose row was trained, or retrain with the row trainable: "
    degree = read_degree(use, None) if side == "input" else written_degree(use, None)
    if kind == SUSPICIOUS:
        degree = at_most(degree, Degree.MODERATE)
    return _graded(degree, message, evidence, consequence, repair + _training_advice([use.token_id]))


def _graded(degree: Degree, message: str, evidence: dict[str, object], consequence: str, repair: str) -> Outcome:
    return replace(SEVERITIES[degree](message, evidence, consequence, repair), degree=degree)


def _names(tokens: Sequence[NewToken]) -> str:
    shown = ", ".join(f"{one.use.text} (id {one.use.token_id})" for one in tokens[:5])
    return shown + (f" and {len(tokens) - 5} more" if len(tokens) > 5 else "")


def _training_advice(ids: list[int]) -> str:
    shown = str(sorted(ids))
    return f'LoraConfig(..., trainable_token_indices={{"embed_tokens": {shown}, "lm_head": {shown}}})'
