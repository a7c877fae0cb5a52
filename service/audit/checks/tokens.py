"""Checks of tokens: one id per role in every file, one reading of the tokenizer.

Knows no tensor.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from service.audit.check import AdapterView, BaseView, Outcome, fatal, skipped, warning
from service.audit.usage import IDLE_ROLES
from service.domain.facts import BaseFacts, IdClaim, TemplateFacts, TokenizerFacts

COPY_TOKENIZER = "Copy tokenizer.json, tokenizer_config.json and the chat template from the base model as one set."
FREE_ROLES = ("eos_token", "bos_token", "pad_token", "unk_token")
"""Roles for which files may name different ids: several tokens can end an answer, and no picture depends on them."""
PICTURE_ROLES = tuple(
    f"{one}_token"
    for one in (
        *("image", "video", "image_start", "image_end", "slice_start", "slice_end"),
        *("image_id_start", "image_id_end"),
    )
)
NEEDED_ROLES = {"minicpmv4_6": PICTURE_ROLES, "minicpmv4_7": PICTURE_ROLES, "minicpm_ocr": PICTURE_ROLES}
"""Names that a model type's processor reads from the tokenizer. Source: transformers 5.23, `processing_*.py`."""


def base_special_ids(view: BaseView) -> Iterator[Outcome]:
    """Compare what tokenizer, processor, config and generation config say about each special id."""
    base = view.base
    if base.tokenizer is None:
        yield skipped("the folder has no readable tokenizer, so no id can be compared")
        return
    claims = (*base.claims, *(view.loaded.claims if view.loaded else ()))
    yield from _names_are_known(base.tokenizer, base.model_type)
    yield from _placeholders_agree(claims)
    yield from _ids_have_tokens(base, base.tokenizer)
    yield from _stop_set_is_complete(base)


def adapter_special_ids(view: AdapterView) -> Iterator[Outcome]:
    """Compare an adapter's own tokenizer and template with the base's ids and stop set."""
    own, base = view.adapter.tokenizer, view.base.tokenizer
    if own is None or base is None:
        return
    yield from _names_are_known(own, view.base.model_type)
    moved = {
        text: {"base": one.token_id, "adapter": own.vocabulary[text]}
        for text, one in base.added.items()
        if own.vocabulary.get(text, one.token_id) != one.token_id
    }
    lost = sorted(text for text in _used_tokens(view.base) if text not in own.vocabulary)
    if moved or lost:
        yield fatal(
            f"the adapter's tokenizer gives {', '.join([*moved, *lost][:5])} other ids than the base's, or none",
            {"moved": moved, "lost": lost},
            "The model reads other tokens than it was trained on: pictures are ignored or turns do not end.",
            COPY_TOKENIZER + " Then add the new tokens again at the ids that they were trained at.",
        )
    changed = {
        name: {"base": base.texts[name], "adapter": text}
        for name, text in own.texts.items()
        if name in base.texts and name not in FREE_ROLES and base.texts[name] != text
    }
    if changed:
        name, texts = next(iter(changed.items()))
        yield fatal(
            f"the adapter's tokenizer calls {texts['adapter']} the {name}, the base's {texts['base']}",
            {"changed": changed},
            "Pictures are marked with a token that the model does not look for: they are not seen.",
            COPY_TOKENIZER,
        )
    yield from _turn_end_stops(view.adapter.template, view.base.stop_ids, "the adapter's chat template")


def base_tokenizer_faithful(view: BaseView) -> Iterator[Outcome]:
    """Compare the loaded tokenizer with the raw tokenizer.json on fixed strings."""
    if view.base.tokenizer is None:
        yield skipped("the folder has no readable tokenizer")
        return
    yield from _faithful(view.base.tokenizer, view.base)


def adapter_tokenizer_faithful(view: AdapterView) -> Iterator[Outcome]:
    """Compare an adapter's loaded tokenizer with its raw file, and with the base's on ordinary text."""
    own, base = view.adapter.tokenizer, view.base.tokenizer
    if own is None:
        return
    yield from _faithful(own, view.base)
    if base is None:
        return
    moved = {
        text: {"base": token_id, "adapter": own.vocabulary.get(text)}
        for text, token_id in base.vocabulary.items()
        if text not in base.added and own.vocabulary.get(text) != token_id
    }
    strings = [text for text, ids in base.golden.items() if own.golden.get(text, ids) != ids]
    if moved or strings or own.merges_digest != base.merges_digest:
        parts = [f"{len(moved)} token(s), first {next(iter(moved))!r}"] if moved else []
        parts += [f"{len(strings)} of the fixed strings, first {strings[0][:40]!r}"] if strings else []
        yield fatal(
            "the adapter's tokenizer gives other ids than the base's for " + (" and ".join(parts) or "rare words"),
            {"tokens": dict(list(moved.items())[:20]), "count": len(moved), "strings": strings},
            "Ordinary text gets other ids than the base learned: answers are garbage or slightly off everywhere.",
            COPY_TOKENIZER + " Then add the new tokens again in the order of training.",
        )


def _faithful(tokenizer: TokenizerFacts, base: BaseFacts) -> Iterator[Outcome]:
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
            'Write "tokenizer_class": "PreTrainedTokenizerFast" in tokenizer_config.json, and take back changes to '
            "the flags and names of special tokens.",
        )
    if tokenizer.misplaced:
        text, listed = next(iter(tokenizer.misplaced.items()))
        yield fatal(
            f"tokenizer.json lists {len(tokenizer.misplaced)} added token(s) with ids that they do not get, first "
            f"{text}: listed as {listed}, read as {tokenizer.added[text].token_id}",
            {"listed": dict(list(tokenizer.misplaced.items())[:20]), "count": len(tokenizer.misplaced)},
            "Added tokens are numbered from the end of the vocabulary whatever the file says: other rows are read "
            "than were trained.",
            COPY_TOKENIZER,
        )
    if tokenizer.grown:
        rows = base.embedding.num_rows if base.embedding else None
        idle = {text for name, text in tokenizer.texts.items() if name in IDLE_ROLES}
        is_idle = all(text in idle and (rows is None or one < rows) for text, one in tokenizer.grown.items())
        names = ", ".join(f"{text} (id {one})" for text, one in list(tokenizer.grown.items())[:5])
        yield (warning if is_idle else fatal)(
            f"loading adds {len(tokenizer.grown)} token(s) that tokenizer.json lacks: {names}",
            {"added": dict(tokenizer.grown)},
            "The added ids mean rows that nobody trained; a stop token added so never ends an answer.",
            "Correct the token's name in tokenizer_config.json, or copy the base model's tokenizer files as one set.",
        )


def _names_are_known(tokenizer: TokenizerFacts, model_type: str) -> Iterator[Outcome]:
    for name, token_id in tokenizer.named.items():
        if token_id is None:
            yield fatal(
                f"{name} is {tokenizer.texts[name]!r}, which is not in the vocabulary",
                {"name": name, "token": tokenizer.texts[name]},
                "The role has no id: placeholders are not found or answers do not end.",
                "Correct the name in tokenizer_config.json, or copy the base model's tokenizer files.",
            )
    if lost := [name for name in NEEDED_ROLES.get(model_type, ()) if name not in tokenizer.named]:
        yield fatal(
            f"the tokenizer names no {', '.join(lost)}, which the processor of {model_type} needs",
            {"missing": lost, "model_type": model_type},
            "The processor cannot start, so no request is answered.",
            "Restore extra_special_tokens in tokenizer_config.json as a mapping of these names to tokens; a list "
            "loses the names.",
        )


def _placeholders_agree(claims: Iterable[IdClaim]) -> Iterator[Outcome]:
    """Roles of pictures must have exactly one id across all files."""
    by_role: dict[str, list[IdClaim]] = defaultdict(list)
    for claim in claims:
        if claim.role not in (*FREE_ROLES, *IDLE_ROLES) and claim.token_ids:
            by_role[claim.role].append(claim)
    for role, said in by_role.items():
        if len({claim.token_ids for claim in said}) > 1:
            yield fatal(
                f"{role} has different ids: " + ", ".join(_spelled(one) for one in said),
                {"role": role, "ids": {one.source: list(one.token_ids) for one in said}},
                "The prompt marks a picture with one id and the model looks for another: pictures are not seen.",
                "Write the id that tokenizer.json gives the token into config.json.",
            )


def _spelled(claim: IdClaim) -> str:
    ids = claim.token_ids[0] if len(claim.token_ids) == 1 else list(claim.token_ids)
    return f"{claim.source} = {ids}" + (f" ({claim.token})" if claim.token else "")


def _ids_have_tokens(base: BaseFacts, tokenizer: TokenizerFacts) -> Iterator[Outcome]:
    """Look for ids between the end of the tokenizer and the last row; those beyond are `rows_cover_ids`' matter.

    A stop set may name more than the tokenizer has as long as one of its ids can be written.
    """
    rows = base.embedding.num_rows if base.embedding else None
    for claim in base.claims:
        beyond = [one for one in claim.token_ids if one > tokenizer.max_id and (rows is None or one < rows)]
        if not beyond or claim.role in IDLE_ROLES or (claim.role == "eos_token" and len(beyond) < len(claim.token_ids)):
            continue
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
    yield from _turn_end_stops(base.template, base.stop_ids, "the chat template")


def _turn_end_stops(template: TemplateFacts | None, stops: tuple[int, ...], name: str) -> Iterator[Outcome]:
    if template and template.error:
        yield fatal(
            f"{name} fails on a plain conversation: {template.error}",
            {"error": template.error},
            "Every request fails.",
            "Copy the base model's chat_template.jinja.",
        )
    if template and stops and template.turn_end_id is not None and template.turn_end_id not in stops:
        yield fatal(
            f"{name} ends an answer with {template.turn_end} (id {template.turn_end_id}), "
            f"which is not among the stop ids {list(stops)}",
            {"turn_end": template.turn_end, "id": template.turn_end_id, "stop_ids": list(stops)},
            "The model ends its answer and is made to go on: it invents the user's next turn.",
            f"Add {template.turn_end_id} to eos_token_id in generation_config.json.",
        )


def _used_tokens(base: BaseFacts) -> set[str]:
    """Return the base's added tokens that prompts, stop sets or processors need."""
    if base.tokenizer is None:
        return set()
    roles = {text for name, text in base.tokenizer.texts.items() if name not in IDLE_ROLES}
    stops = {text for text, one in base.tokenizer.added.items() if one.token_id in base.stop_ids}
    return roles | stops | set(base.template.control_tokens if base.template else ())
