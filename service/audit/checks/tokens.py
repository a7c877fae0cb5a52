"""Checks of tokens: one id per role in every file, one reading of the tokenizer, trained rows for new tokens.

Knows nothing of tensors that are not vocabulary rows.
"""

from collections import defaultdict
from collections.abc import Iterator

from service.audit.check import AdapterView, BaseView, Outcome, fatal, note, skipped, warning
from service.audit.usage import UntrainedToken, replaced_tokens, untrained_tokens
from service.domain.facts import BaseFacts, IdClaim, MatrixFacts, TemplateFacts, TokenizerFacts

COPY_TOKENIZER = "Copy tokenizer.json, tokenizer_config.json and the chat template from the base model as one set."
RESIZE_COSINE = 0.999
"""Rows made by `resize_token_embeddings` are drawn around the mean with a variance of 1e-9."""


def base_special_ids(view: BaseView) -> Iterator[Outcome]:
    """Compare what tokenizer, processor, config and generation config say about each special id."""
    base = view.base
    if base.tokenizer is None:
        yield skipped("the folder has no readable tokenizer, so no id can be compared")
        return
    claims = (*base.claims, *(view.loaded.claims if view.loaded else ()))
    yield from _names_without_id(base.tokenizer)
    yield from _placeholders_agree(claims)
    yield from _ids_without_token(claims, base.tokenizer)
    yield from _stop_set_is_complete(base)


def adapter_special_ids(view: AdapterView) -> Iterator[Outcome]:
    """Compare an adapter's own tokenizer and template with the base's ids and stop set."""
    own, base = view.adapter.tokenizer, view.base.tokenizer
    if own is None or base is None:
        return
    yield from _names_without_id(own)
    moved = {
        text: (one.token_id, own.added[text].token_id)
        for text, one in base.added.items()
        if text in own.added and own.added[text].token_id != one.token_id
    }
    lost = sorted(text for text in base.added if text not in own.added)
    if moved or lost:
        names = [*moved, *lost]
        yield fatal(
            f"the adapter's tokenizer gives {', '.join(names[:5])} other ids than the base's, or none",
            {"moved": {text: {"base": old, "adapter": new} for text, (old, new) in moved.items()}, "lost": lost},
            "The model reads other tokens than it was trained on: pictures are ignored or turns do not end.",
            COPY_TOKENIZER + " Then add the new tokens again at the ids that they were trained at.",
        )
    yield from _turn_end_stops(view.adapter.template, view.base.stop_ids)


def base_tokenizer_faithful(view: BaseView) -> Iterator[Outcome]:
    """Compare the loaded tokenizer with the raw tokenizer.json on fixed strings."""
    if view.base.tokenizer is None:
        yield skipped("the folder has no readable tokenizer")
        return
    yield from _faithful(view.base.tokenizer)


def adapter_tokenizer_faithful(view: AdapterView) -> Iterator[Outcome]:
    """Compare an adapter's loaded tokenizer with its raw file, and with the base's on base text."""
    if view.adapter.tokenizer is None:
        return
    yield from _faithful(view.adapter.tokenizer)
    base = view.base.tokenizer
    if base and view.adapter.tokenizer.vocabulary_digest != base.vocabulary_digest:
        yield fatal(
            "the adapter's tokenizer has another vocabulary, merges or splitting than the base's",
            {"base": base.vocabulary_digest, "adapter": view.adapter.tokenizer.vocabulary_digest},
            "Ordinary text gets other ids than the base learned: answers are garbage or slightly off everywhere.",
            COPY_TOKENIZER + " Then add the new tokens again in the order of training.",
        )


def base_trained_rows(view: BaseView) -> Iterator[Outcome]:
    """Look at the input rows of tokens that the template writes, and at the output rows of those that end answers."""
    base = view.base
    if base.tokenizer is None or base.embedding is None:
        yield skipped("needs a tokenizer and input embeddings")
        return
    exempt = replaced_tokens(base.claims)
    read = {one: text for text, one in (base.template.control_tokens if base.template else {}).items()}
    for token_id, text in sorted(read.items()):
        if token_id not in exempt:
            yield from _untrained_row(text, token_id, "input", base.embedding)
    head = base.head or base.embedding
    if base.template and base.template.turn_end and base.template.turn_end_id is not None:
        yield from _untrained_row(base.template.turn_end, base.template.turn_end_id, "output", head)


def _untrained_row(text: str, token_id: int, matrix: str, facts: MatrixFacts) -> Iterator[Outcome]:
    """Recognise a row that is zero, or as `resize_token_embeddings` leaves it."""
    row = facts.rows.get(token_id)
    if row is None or (row.norm > 0 and row.cosine_to_mean <= RESIZE_COSINE):
        return
    what = "zero" if row.norm == 0 else "the mean of all rows, as resizing leaves it"
    consequence = (
        "The model reads a token that it never learned in every prompt."
        if matrix == "input"
        else "The model cannot end its answers."
    )
    yield fatal(
        f"the chat template uses {text} (id {token_id}) in every conversation, but its {matrix} row is {what}",
        {
            "token": text,
            "id": token_id,
            "matrix": matrix,
            "norm": row.norm,
            "norm_percentile": row.norm_percentile,
            "cosine_to_mean": row.cosine_to_mean,
        },
        consequence,
        "Retrain with the row trainable: " + _training_advice([token_id]),
    )


def adapter_trained_rows(view: AdapterView) -> Iterator[Outcome]:
    """Look for tokens that the adapter's tokenizer adds and whose rows nobody trained."""
    if view.base.tokenizer is None or view.base.embedding is None:
        yield skipped("needs the base's tokenizer and input embeddings")
        return
    untrained = untrained_tokens(view.base, view.adapter)
    if dead := [one for one in untrained if not one.is_input_trained]:
        yield fatal(
            f"the adapter's tokenizer adds {_names(dead)}, but nobody trained their input rows",
            {"tokens": [one.evidence() for one in dead]},
            "The model reads them as noise and never writes them: prompts and answers that need them are wrong.",
            "Retrain with the rows trainable: " + _training_advice([one.token_id for one in dead]),
        )
    if mute := [one for one in untrained if one.is_input_trained and not one.is_output_trained]:
        yield warning(
            f"the adapter trained input rows of {_names(mute)}, but not their output rows",
            {"tokens": [one.evidence() for one in mute]},
            "The model can read these tokens but hardly ever write them.",
            "If answers should contain them, retrain with lm_head rows too: "
            + _training_advice([one.token_id for one in mute]),
        )
    if not untrained and view.adapter.new_tokens:
        yield note(
            f"{len(view.adapter.new_tokens)} new tokens, all with trained rows",
            {"tokens": dict(view.adapter.new_tokens)},
        )


def _faithful(tokenizer: TokenizerFacts) -> Iterator[Outcome]:
    if tokenizer.mismatches:
        first = tokenizer.mismatches[0]
        yield fatal(
            f"transformers reads {len(tokenizer.mismatches)} of the fixed strings differently from tokenizer.json, "
            f"first {first.text[:40]!r}",
            {
                "strings": len(tokenizer.mismatches),
                "text": first.text,
                "raw_ids": list(first.raw_ids)[:40],
                "loaded_ids": list(first.loaded_ids)[:40],
            },
            "Every prompt reaches the model in other pieces than in training: answers are garbage or quietly worse.",
            'Write "tokenizer_class": "PreTrainedTokenizerFast" in tokenizer_config.json.',
        )


def _names_without_id(tokenizer: TokenizerFacts) -> Iterator[Outcome]:
    for name, token_id in tokenizer.named.items():
        if token_id is None:
            yield fatal(
                f"{name} is {tokenizer.texts[name]!r}, which is not in the vocabulary",
                {"name": name, "token": tokenizer.texts[name]},
                "The role has no id: placeholders are not found or answers do not end.",
                "Correct the name in tokenizer_config.json, or copy the base model's tokenizer files.",
            )


def _placeholders_agree(claims: tuple[IdClaim, ...]) -> Iterator[Outcome]:
    """Roles other than eos, bos and pad must have exactly one id across all files."""
    by_role: dict[str, list[IdClaim]] = defaultdict(list)
    for claim in claims:
        if claim.role not in ("eos_token", "bos_token", "pad_token") and claim.token_ids:
            by_role[claim.role].append(claim)
    for role, said in by_role.items():
        if len({claim.token_ids for claim in said}) > 1:
            yield fatal(
                f"{role} has different ids: " + ", ".join(f"{one.source} = {one.token_ids[0]}" for one in said),
                {"role": role, "ids": {one.source: list(one.token_ids) for one in said}},
                "The prompt marks a picture with one id and the model looks for another: pictures are not seen.",
                "Write the id that tokenizer.json gives the token into config.json.",
            )


def _ids_without_token(claims: tuple[IdClaim, ...], tokenizer: TokenizerFacts) -> Iterator[Outcome]:
    for claim in claims:
        if beyond := [one for one in claim.token_ids if one > tokenizer.max_id]:
            yield fatal(
                f"{claim.source} is {beyond[0]}, but the tokenizer ends at id {tokenizer.max_id}",
                {"source": claim.source, "ids": beyond, "max_id": tokenizer.max_id},
                "No text has this id: a stop token never matches, a placeholder is never found.",
                "Copy the base model's file of that name, or write the id that tokenizer.json gives the token.",
            )


def _stop_set_is_complete(base: BaseFacts) -> Iterator[Outcome]:
    if not base.stop_ids:
        yield fatal(
            "neither generation_config.json nor config.json names an eos_token_id",
            {"turn_end": base.template.turn_end if base.template else None},
            "Answers never end before max_new_tokens.",
            "Copy the base model's generation_config.json.",
        )
        return
    yield from _turn_end_stops(base.template, base.stop_ids)


def _turn_end_stops(template: TemplateFacts | None, stops: tuple[int, ...]) -> Iterator[Outcome]:
    if template and template.error:
        yield fatal(
            f"the chat template fails on a plain conversation: {template.error}",
            {"error": template.error},
            "Every request fails.",
            "Copy the base model's chat_template.jinja.",
        )
    if template and template.turn_end_id is not None and template.turn_end_id not in stops:
        yield fatal(
            f"the template ends an answer with {template.turn_end} (id {template.turn_end_id}), "
            f"which is not among the stop ids {list(stops)}",
            {"turn_end": template.turn_end, "id": template.turn_end_id, "stop_ids": list(stops)},
            "The model ends its answer and is made to go on: it invents the user's next turn.",
            f"Add {template.turn_end_id} to eos_token_id in generation_config.json.",
        )


def _names(tokens: list[UntrainedToken]) -> str:
    shown = ", ".join(f"{one.text} (id {one.token_id})" for one in tokens[:5])
    return shown + (f" and {len(tokens) - 5} more" if len(tokens) > 5 else "")


def _training_advice(ids: list[int]) -> str:
    shown = str(sorted(ids))
    return f'LoraConfig(..., trainable_token_indices={{"embed_tokens": {shown}, "lm_head": {shown}}})'
