"""Judges marks of thoughts that a template writes and the tokenizer has no token for.

Knows no other part of a template.
"""

from collections.abc import Iterator

from service.audit.check import AdapterView, BaseView, Outcome, fatal, note, warning
from service.audit.older_minicpmv import config_of, stored_version
from service.audit.row_states import initial_state, is_clear
from service.domain.facts import BaseFacts, MatrixFacts, RowFacts
from service.domain.minicpmv import version_of

WITH_THOUGHTS = frozenset({"minicpmv4_6", "minicpmv4_7"})
"""Model types whose official vocabularies have a token for `<think>` and one for `</think>`."""
WITH_THOUGHTS_BY_VERSION = {("minicpmv", "4.5"), ("minicpmo", "4.5")}
WITHOUT_THOUGHTS = frozenset({"2.6", "4.0"})
"""Versions of `minicpmv` whose official templates know no thoughts."""
SURER = 0.25
"""Of the first token, on average. The demo and its merge, trained behind an empty thought, are surer by 0.29 and 0.57;
a 4.5 that answers both ways by 0.16, its adapter by 0.09, and the demo tuned anew without one by 0.14."""
FAR_SURER = 0.45
"""Halfway through such a tuning it was 0.31, and at its beginning 0.41."""
FEW = 1
"""Of eight drawings. Behind an empty thought the demo and its adapters name eight colours; without one none or one, and
four with the official adapter. Trained without one, or both ways, a model names seven or eight without."""
NEVER_CLOSES = 5e-4
"""Models that never learned to think give </think> at most 1e-4, the demo's base 2e-6. One that learned it gives nearly
1 at the thought's end, and an adapter 0.02 that learned it over a head that had not."""
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
    certainty, named = (behaviour.thought_certainty, behaviour.named_colours) if behaviour else (None, None)
    is_shown = named is not None and named.num_asked - named.behind <= FEW >= named.without
    if certainty and (is_shown or certainty[1] - certainty[0] >= SURER):
        bare, behind = certainty
        evidence = {"without": round(bare, 4), "behind": round(behind, 4), "limit": SURER}
        colours = ""
        if named:
            evidence |= {"asked": named.num_asked, "right_without": named.without, "right_behind": named.behind}
            colours = (
                f"; it names the colours of {named.behind} of {named.num_asked} drawings behind one, and of "
                f"{named.without} without"
            )
        yield (fatal if is_shown or behind - bare >= FAR_SURER else warning)(
            "the chat template's generation prompt lacks the empty <think></think> behind which the model was trained "
            f"to answer: it is sure of an answer's first token by {behind:.2f} behind one, and by {bare:.2f} without"
            + colours,
            {**evidence, "setting": "add_generation_prompt"},
            "Answers begin where training began none: many are wrong, or in another form.",
            "Copy the chat template that training used, which writes <think>\\n\\n</think>\\n\\n where an answer "
            "begins; if that was the base's: minicpm-service repair --base BASE.",
        )
    elif isinstance(view, BaseView) and not certainty and _opens_without(view.base):
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
    if seen is None or seen.num_closed or seen.close_probability > NEVER_CLOSES or 2 * seen.num_ended < seen.num_asked:
        return
    yield fatal(
        f"the chat template opens a thought with <think> where an answer begins, but the model does not think: of "
        f"{seen.num_asked} questions it ended its turn {seen.num_ended} times, such as with {seen.example!r}, and "
        f"never wrote </think>, to which it gives a probability of {seen.close_probability:.1g} at most",
        {
            "asked": seen.num_asked,
            "ended": seen.num_ended,
            "closed": seen.num_closed,
            "close_probability": seen.close_probability,
            "limit": NEVER_CLOSES,
            "example": seen.example,
            "setting": "enable_thinking",
        },
        "Users get answers inside a thought that nothing closes: what shows thoughts apart shows no answer, and many "
        "answers are wrong, because training began them behind an empty thought or none.",
        "Copy the chat template that training used, which opens a thought only if enable_thinking asks for one; if "
        "that was the base's: minicpm-service repair --base BASE.",
    )


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
