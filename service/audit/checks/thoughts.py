"""Judges marks of thoughts that a template writes and the tokenizer has no token for.

Knows no other part of a template.
"""

from collections.abc import Iterator

from service.audit.check import AdapterView, BaseView, Outcome, fatal, note, warning
from service.audit.older_minicpmv import config_of, stored_version
from service.audit.row_states import initial_state, is_clear
from service.domain.facts import BaseFacts, MatrixFacts, MissingThought, RowFacts
from service.domain.minicpmv import version_of

WITH_THOUGHTS = frozenset({"minicpmv4_6", "minicpmv4_7"})
"""Model types whose official vocabularies have a token for `<think>` and one for `</think>`."""
WITH_THOUGHTS_BY_VERSION = {("minicpmv", "4.5"), ("minicpmo", "4.5")}
WITHOUT_THOUGHTS = frozenset({"2.6", "4.0"})
"""Versions of `minicpmv` whose official templates know no thoughts."""
SURER = 0.25
"""Of the first token, on average, behind an empty thought: a warning. The demo and its merge, trained behind one, are
surer by 0.32 and 0.53; a 4.5 that answers both ways by 0.09, and the demo tuned anew without one by 0.4 on the way and
by less than 0.1 in the end."""
RATHER_SURER = 0.1
"""Where answers begin amid a text, too; an adapter that writes markup is surer by 0.16."""
AMID = 0.25
"""Of the answers, and none behind an empty thought. Of 12, the demo began 5 with a space, its merge 3 and the adapter
that writes markup 8; tuned anew without an empty thought the demo began at most one so, once it answered rightly."""
ENDS, CLOSES = 0.5, 5e-3
"""Of the next token in an open thought. Models that never learned to think end their turns behind a finished answer
with 0.99 and close the thought with 0.0015 at most; one that learned it closes it with nearly 1 where it ends."""
CONSEQUENCE = (
    "The model reads letters where training had one token, at the beginning of every answer: it thinks where it should "
    "not, writes the marks as text, or its answer cannot be told from its thoughts."
)


def thoughts_are_tokens(base: BaseFacts) -> Iterator[Outcome]:
    """Say that a tokenizer lost them, if the model's type or a trained row without a token shows it."""
    template, tokenizer = base.template, base.tokenizer
    if template is None or tokenizer is None:
        return
    marks = (*template.plain_marks, *template.switched_marks)
    version, stored = version_of(config_of(base)), stored_version(base.tensors, config_of(base))
    is_certain = stored is None or f"{stored:.1f}" == version  # else the version is wrong, and model_config says so
    if version in WITHOUT_THOUGHTS and template.has_switch and is_certain:
        yield _of_a_later_version(version or "", marks)
        return
    if not marks:
        return
    names = " and ".join(marks)
    trained = _trained_rows(base, range(tokenizer.max_id + 1, tokenizer.max_id + 1 + len(marks)))
    if not trained and not _has_thoughts(base):
        yield note(
            f"the chat template writes {names} as ordinary text: the tokenizer has no token for it",
            {"marks": list(marks)},
            "Some models learned it so; nothing shows that this one did not.",
            "Compare with the base: audit --base.",
        )
        return
    why = (
        f"row(s) {', '.join(map(str, trained))} behind the tokenizer's last id {tokenizer.max_id} are trained, and no "
        "token reaches them"
        if trained
        else f"every official vocabulary of {base.model_type} has a token for each"
    )
    yield fatal(
        f"the chat template writes {names}, which the tokenizer splits into ordinary text; {why}",
        {"marks": list(marks), "trained_rows": trained, "max_id": tokenizer.max_id},
        CONSEQUENCE,
        "Copy tokenizer.json and tokenizer_config.json from the base model as one set, and add new tokens again in the "
        "order of training: minicpm-service repair --base BASE.",
    )


def thoughts_are_expected(view: BaseView | AdapterView) -> Iterator[Outcome]:
    """Say that prompts lack the empty thought behind which the model was trained to answer.

    Only a loaded model tells: folders that were tuned without it look alike.
    """
    behaviour = view.loaded.behaviour if view.loaded else None
    seen = behaviour.missing_thought if behaviour else None
    surer = seen.certainty_behind - seen.certainty if seen else 0.0
    amid = _amid(seen) if seen and surer >= RATHER_SURER else []
    if seen and (amid or surer >= SURER):
        begun = f"; {len(amid)} of {len(seen.beginnings)} answers would begin amid a text, such as with" if amid else ""
        yield (fatal if amid else warning)(
            "the chat template's generation prompt lacks the empty <think></think> behind which the model was trained "
            f"to answer: it is sure of an answer's first token by {seen.certainty_behind:.2f} behind one, and by "
            f"{seen.certainty:.2f} without" + (f"{begun} {amid[0]!r}, and none behind one" if amid else ""),
            {
                "without": round(seen.certainty, 4),
                "behind": round(seen.certainty_behind, 4),
                "limit": RATHER_SURER if amid else SURER,
                "beginnings": list(seen.beginnings),
                "beginnings_behind": list(seen.beginnings_behind),
                "setting": "add_generation_prompt",
            },
            "Answers begin where training began none: many are wrong, or in another form.",
            "Copy the chat template that training used, which writes <think>\\n\\n</think>\\n\\n where an answer "
            "begins; if that was the base's: minicpm-service repair --base BASE.",
        )
    elif isinstance(view, BaseView) and not seen and _opens_without(view.base):
        yield note(
            "the chat template opens an answer without a <think>; the official one of this model writes an empty one",
            {"setting": "add_generation_prompt"},
            "If training had it, many answers are wrong.",
            "Let the audit ask the loaded model, with --probe, or compare with the base, with --base.",
        )


def thoughts_are_closed(view: BaseView | AdapterView) -> Iterator[Outcome]:
    """Say that prompts open a thought although the model does not think: it answers inside, and ends its turn there."""
    behaviour = view.loaded.behaviour if view.loaded else None
    seen = behaviour.open_thought if behaviour else None
    if seen is None or not (seen.end_probability >= ENDS and seen.close_probability <= CLOSES):
        return  # or they are NaN
    yield fatal(
        "the chat template opens a thought with <think> where an answer begins, but the model does not think: behind "
        f"{seen.example!r} within the thought it would end its turn with a probability of {seen.end_probability:.2f}, "
        f"and nowhere write </think> with more than {seen.close_probability:.1g}",
        {
            "end_probability": seen.end_probability,
            "close_probability": seen.close_probability,
            "limits": [ENDS, CLOSES],
            "example": seen.example,
            "setting": "enable_thinking",
        },
        "Users get answers inside a thought that nothing closes: what shows thoughts apart shows no answer, and many "
        "answers are wrong, because training began them behind an empty thought or none.",
        "Copy the chat template that training used, which opens a thought only if enable_thinking asks for one; if "
        "that was the base's: minicpm-service repair --base BASE.",
    )


def _amid(seen: MissingThought) -> list[str]:
    """Return the beginnings that are no answer's: with a space, as behind a prompt's line break no text begins.

    None if they are few, or an empty thought does not take them away.
    """
    amid = [one for one in seen.beginnings if one.startswith(" ")]
    is_clear = len(amid) >= AMID * len(seen.beginnings) and not any(x.startswith(" ") for x in seen.beginnings_behind)
    return amid if is_clear else []


def _opens_without(base: BaseFacts) -> bool:
    """Say whether a prompt holds no thought although official ones of the model type do."""
    template, tokenizer = base.template, base.tokenizer
    asked = template.conversations.get("question") if template else None
    token = tokenizer.added.get("<think>") if tokenizer else None
    return (
        bool(asked) and token is not None and base.model_type in WITH_THOUGHTS and token.token_id not in (asked or ())
    )


def _of_a_later_version(version: str, marks: tuple[str, ...]) -> Outcome:
    lost = f", for which the tokenizer has no token ({' and '.join(marks)})" if marks else ""
    return warning(
        f"the chat template has a switch for thoughts{lost}; that of MiniCPM-V {version} has none",
        {"marks": list(marks), "version": version},
        "It is the template of a later version, unless this one was tuned to think: prompts lack what it was trained "
        "with, such as its system prompt.",
        "Copy the chat template from the official checkpoint of this version: minicpm-service repair --base BASE.",
    )


def _has_thoughts(base: BaseFacts) -> bool:
    version = str(base.documents.get("config.json", {}).get("version"))
    return base.model_type in WITH_THOUGHTS or (base.model_type, version) in WITH_THOUGHTS_BY_VERSION


def _trained_rows(base: BaseFacts, ids: range) -> list[int]:
    """Find rows that were trained beyond doubt: longer than those of ids that no text reaches, and like no other."""
    embedding = base.embedding
    rows = {one: embedding.rows.get(one) for one in ids} if embedding else {}
    return [
        one for one, row in rows.items() if is_clear(row, embedding) and row is not None and _is_own(row, embedding)
    ]


def _is_own(row: RowFacts, matrix: MatrixFacts | None) -> bool:
    return not row.twins and initial_state(row, matrix) is None
