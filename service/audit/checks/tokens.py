"""Checks of tokens: one id per role in every file, one reading of the tokenizer.

Knows no tensor.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from service.audit.check import AdapterView, BaseView, Outcome, fatal, note, skipped, warning
from service.audit.older_minicpmv import added_markers
from service.audit.usage import IDLE_ROLES, needed_texts
from service.domain.facts import BaseFacts, IdClaim, TokenizerFacts
from service.domain.minicpmv import MARKERS, MODEL_TYPE

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
SENTENCEPIECE_CLASSES = ("LlamaTokenizer", "LlamaTokenizerFast")
NEEDED_ROLES = {"minicpmv4_6": PICTURE_ROLES, "minicpmv4_7": PICTURE_ROLES, "minicpm_ocr": PICTURE_ROLES}
"""Names that a model type's processor reads from the tokenizer. Source: transformers 5.23, `processing_*.py`."""


def base_special_ids(view: BaseView) -> Iterator[Outcome]:
    """Compare what tokenizer, processor, config and generation config say about each special id."""
    base = view.base
    if base.tokenizer is None:
        yield skipped("the folder has no readable tokenizer, so no id can be compared")
        return
    claims = (*base.claims, *(view.loaded.claims if view.loaded else ()))
    yield from names_are_sound(view)
    yield from _config_names_placeholders(base)
    different = list(_placeholders_agree(claims))
    yield from different or _placeholders_end_nothing(base)
    yield from _ids_have_tokens(base, base.tokenizer)


def names_are_sound(view: BaseView) -> Iterator[Outcome]:
    """Judge the tokens of the base's tokenizer by themselves and beside the origin's, whatever other files say."""
    base = view.base
    if base.tokenizer is None:
        return
    yield from _names_are_known(base.tokenizer, base.model_type)
    if base.model_type == MODEL_TYPE:
        yield from _pieces_of_minicpmv(base.tokenizer)
    yield from _markers_are_not_swapped(base.tokenizer)
    if view.origin:
        yield from _same_tokens(base.tokenizer, view.origin.base, "the tokenizer", "the origin's")


def adapter_special_ids(view: AdapterView) -> Iterator[Outcome]:
    """Compare an adapter's own tokenizer with the base's ids."""
    own, base = view.adapter.tokenizer, view.base.tokenizer
    if own is None or base is None:
        return
    yield from _names_are_known(own, view.base.model_type)
    yield from _same_tokens(own, view.base, "the adapter's tokenizer", "the base's")


def _same_tokens(own: TokenizerFacts, other: BaseFacts, name: str, others: str) -> Iterator[Outcome]:
    """Compare added tokens with those of the folder that the weights were trained with."""
    known = other.tokenizer
    if known is None:
        return
    moved = {
        text: {"expected": one.token_id, "found": own.vocabulary[text]}
        for text, one in known.added.items()
        if own.vocabulary.get(text, one.token_id) != one.token_id
    }
    split = {text for text in added_markers(other) if text not in own.added}
    lost = sorted(split | {text for text in needed_texts(other) if text not in own.vocabulary})
    if moved or lost:
        yield fatal(
            f"{name} gives {', '.join([*moved, *lost][:5])} other ids than {others}, or none",
            {"moved": moved, "lost": lost},
            "The model reads other tokens than it was trained on: pictures are ignored or turns do not end.",
            COPY_TOKENIZER + " Then add the new tokens again at the ids that they were trained at.",
        )
    changed = {
        role: {"expected": known.texts[role], "found": text}
        for role, text in own.texts.items()
        if role in known.texts and role not in FREE_ROLES and known.texts[role] != text
    }
    if changed:
        role, texts = next(iter(changed.items()))
        yield fatal(
            f"{name} calls {texts['found']} the {role}, {others} {texts['expected']}",
            {"changed": changed},
            "Pictures are marked with a token that the model does not look for: they are not seen.",
            COPY_TOKENIZER,
        )


def base_tokenizer_faithful(view: BaseView) -> Iterator[Outcome]:
    """Compare the loaded tokenizer with the raw tokenizer.json on fixed strings."""
    if view.base.tokenizer is None:
        yield skipped("the folder has no readable tokenizer")
        return
    yield from _faithful(view.base.tokenizer, view.base)


def adapter_tokenizer_faithful(view: AdapterView) -> Iterator[Outcome]:
    """Compare an adapter's loaded tokenizer with its raw file."""
    if view.adapter.tokenizer is not None:
        yield from _faithful(view.adapter.tokenizer, view.base)


def _faithful(tokenizer: TokenizerFacts, base: BaseFacts) -> Iterator[Outcome]:
    wrong = [one for one in tokenizer.mismatches if tokenizer.is_byte_level or not one.is_outer_space]
    if tokenizer.mismatches and not wrong:
        yield note(
            "transformers reads a space at the beginning of a text as one token less than tokenizer.json says",
            {"strings": [one.text for one in tokenizer.mismatches]},
            "It does so with every SentencePiece vocabulary of this form, the official ones too.",
        )
    if wrong:
        first = wrong[0]
        yield fatal(
            f"transformers reads {len(wrong)} of the fixed strings differently from tokenizer.json, "
            f"first {first.text[:40]!r}",
            {
                "strings": len(wrong),
                "text": first.text,
                "raw_ids": list(first.raw_ids)[:40],
                "loaded_ids": list(first.loaded_ids)[:40],
            },
            "Every prompt reaches the model in other pieces than in training: answers are garbage or quietly worse.",
            'Write "tokenizer_class": "PreTrainedTokenizerFast" in tokenizer_config.json, and take back changes to '
            "the flags and names of special tokens.",
        )
    yield from _class_is_safe(tokenizer)
    yield from _files_agree(tokenizer, base)
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


def _pieces_of_minicpmv(tokenizer: TokenizerFacts) -> Iterator[Outcome]:
    """MiniCPM-V 2.6, 4.0 and 4.5 find pictures by strings, `<unk>` standing for every feature."""
    lost = [text for text in MARKERS.values() if text not in tokenizer.vocabulary]
    if lost:
        yield fatal(
            f"the tokenizer lacks {', '.join(lost)}, by which minicpmv marks pictures",
            {"missing": lost},
            "The markers fall into pieces of ordinary text: pictures are ignored or requests fail.",
            COPY_TOKENIZER,
        )


def _class_is_safe(tokenizer: TokenizerFacts) -> Iterator[Outcome]:
    if tokenizer.is_byte_level and tokenizer.declared_class in SENTENCEPIECE_CLASSES and not tokenizer.mismatches:
        yield warning(
            f"tokenizer_config.json names {tokenizer.declared_class}, but tokenizer.json works on bytes",
            {"tokenizer_class": tokenizer.declared_class},
            "This service reads it right; transformers before 5.23, and servers built on it, lay SentencePiece's rules "
            "over it: spaces vanish and every prompt gets other ids.",
            'Write "tokenizer_class": "PreTrainedTokenizerFast" in tokenizer_config.json.',
        )


def _files_agree(tokenizer: TokenizerFacts, base: BaseFacts) -> Iterator[Outcome]:
    if not tokenizer.contradictions:
        return
    first = tokenizer.contradictions[0]
    needed = needed_texts(base) | {
        text for text in tokenizer.added if not (base.tokenizer and text in base.tokenizer.added)
    }
    is_used = any(one.token in needed for one in tokenizer.contradictions)
    yield (fatal if is_used else warning)(
        f"{first.file} gives {first.token} the id {first.listed_id}, tokenizer.json {first.real_id}"
        + (f"; {len(tokenizer.contradictions)} tokens in all" if len(tokenizer.contradictions) > 1 else ""),
        {
            "tokens": {
                one.token: {"listed": one.listed_id, "real": one.real_id} for one in tokenizer.contradictions[:50]
            },
            "file": first.file,
        },
        "Two loaders read two ids: whichever the training used, the other one reads rows of other tokens.",
        "Write the ids of the training into both files: compare them with the rows that were trained.",
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


def _placeholders_end_nothing(base: BaseFacts) -> Iterator[Outcome]:
    """A picture cannot stand on the token that ends turns."""
    template = base.template
    for claim in base.claims:
        is_ours = claim.role in PICTURE_ROLES and not claim.source.startswith("tokenizer")
        if template and is_ours and template.turn_end_id in claim.token_ids:
            yield fatal(
                f"{claim.source} is {template.turn_end_id}, which is {template.turn_end} and ends turns",
                {"source": claim.source, "id": template.turn_end_id, "token": template.turn_end},
                "Features of pictures replace the ends of turns: conversations fall apart, and pictures are not seen.",
                f"Take config.json from the base model, or the field out: {MODEL_TYPE} finds pictures by text."
                if base.model_type == MODEL_TYPE
                else "Write the id that tokenizer.json gives the placeholder into config.json.",
            )


def _markers_are_not_swapped(tokenizer: TokenizerFacts) -> Iterator[Outcome]:
    for name, text in tokenizer.texts.items():
        is_wrong = (
            text.startswith("</")
            if name.endswith("_start_token")
            else text[:1] == "<" != text[1:2]
            and (name.endswith("_end_token") and text.startswith("<") and not text.startswith(("</", "<|")))
        )
        if is_wrong:
            yield fatal(
                f"{name} is {text}, which by its form is the opposite marker",
                {"name": name, "token": text},
                "Pictures open with the closing marker: the model cannot tell where they stand.",
                "Exchange the start and end tokens in extra_special_tokens of tokenizer_config.json.",
            )


def _config_names_placeholders(base: BaseFacts) -> Iterator[Outcome]:
    """The class's default id belongs to the official vocabulary, which need not be this one."""
    config, tokenizer = base.documents.get("config.json", {}), base.tokenizer
    if base.model_type not in NEEDED_ROLES or tokenizer is None or config.get("image_token_id") is not None:
        return
    if token_id := tokenizer.named.get("image_token"):
        yield fatal(
            f"config.json names no image_token_id; the tokenizer's {tokenizer.texts['image_token']} is {token_id}",
            {"tokenizer": token_id},
            "The model looks for its class's default id: pictures are not seen, or loading fails.",
            f'Write "image_token_id": {token_id} into config.json.',
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
