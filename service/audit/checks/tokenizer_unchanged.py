"""Check of a tokenizer against the one that the weights were trained with.

Knows no added token; `special_ids` and `token_flags` do.
"""

import re
from collections.abc import Callable, Iterator

from service.audit.check import AdapterView, BaseView, Check, Outcome, fatal, warning
from service.audit.checks.tokenizer_sound import is_reachable
from service.domain.facts import TokenizerFacts

COPY = "Restore the tokenizer files from the base as one set, and add new tokens again in the order of training: "
WORD = re.compile(r"\w[\w\s]*", re.UNICODE)
WHY = """\
Embedding rows belong to ids, so ordinary text must get the ids that it had in training. A tuned folder or an adapter
often carries a tokenizer of its own; trainers re-save it, convert it, or take it from a relative of the base. Compared
are the ids of every ordinary token, the merges, and the ids of fixed strings in several languages. New tokens may be
added; one whose string is ordinary text changes how that text is read in every prompt, for every adapter."""


def base_tokenizer_unchanged(view: BaseView) -> Iterator[Outcome]:
    """Compare a tuned folder's tokenizer with its origin's."""
    if view.origin and view.base.tokenizer and view.origin.base.tokenizer:
        yield from _unchanged(view.base.tokenizer, view.origin.base.tokenizer, "the tokenizer", "the origin's")
        is_seeing = isinstance(view.base.documents.get("config.json", {}).get("vision_config"), dict)
        severity = fatal if is_seeing and view.origin.is_untuned else warning  # processors encode prompts so
        yield from _begun_alike(
            view.base.tokenizer, view.origin.base.tokenizer, "the tokenizer", "the origin's", severity
        )


def adapter_tokenizer_unchanged(view: AdapterView) -> Iterator[Outcome]:
    """Compare an adapter's own tokenizer with the base's."""
    if view.adapter.tokenizer and view.base.tokenizer:
        yield from _unchanged(view.adapter.tokenizer, view.base.tokenizer, "the adapter's tokenizer", "the base's")
        yield from _begun_alike(
            view.adapter.tokenizer, view.base.tokenizer, "the adapter's tokenizer", "the base's", warning
        )


def _unchanged(own: TokenizerFacts, other: TokenizerFacts, name: str, others: str) -> Iterator[Outcome]:
    shadows = {
        text: one.token_id for text, one in own.added.items() if text not in other.vocabulary and WORD.fullmatch(text)
    }
    if shadows:
        yield warning(
            f"{name} adds {', '.join(list(shadows)[:5])}, which ordinary text contains",
            {"tokens": shadows},
            "Wherever the text occurs, the model reads one new token instead of the pieces that it knows.",
            "Train with sentinels that no text contains, such as <total>, or drop the token and use its pieces.",
        )
    moved = {
        text: {"expected": token_id, "found": own.vocabulary.get(text)}
        for text, token_id in other.vocabulary.items()
        if text not in other.added and own.vocabulary.get(text) != token_id
    }
    strings = [
        text
        for text, ids in other.golden.items()
        if own.golden.get(text, ids) != ids and not any(one in text for one in shadows)
    ]
    is_misread = any(own.is_byte_level or not one.is_outer_space for one in own.mismatches)
    is_broken = own.lossy or is_misread or not is_reachable(own)  # other checks say so
    if (moved or strings or own.merges_digest != other.merges_digest) and not is_broken:
        parts = [f"{len(moved)} token(s), first {next(iter(moved))!r}"] if moved else []
        parts += [f"{len(strings)} of the fixed strings, first {strings[0][:40]!r}"] if strings else []
        yield fatal(
            f"{name} gives other ids than {others} for "
            + (" and ".join(parts) or "rare words: its merges differ")
            + _because(own, other, others),
            {"tokens": dict(list(moved.items())[:20]), "count": len(moved), "strings": strings},
            "Ordinary text gets other ids than the base learned: answers are garbage or slightly off everywhere.",
            COPY + "minicpm-service repair does both.",
        )


def _because(own: TokenizerFacts, other: TokenizerFacts, others: str) -> str:
    """Name the parts of tokenizer.json that differ."""
    found = []
    for kind, (types, settings) in own.parts.items():
        before, old_settings = other.parts.get(kind, (types, settings))
        if types != before:
            found.append(f"its {kind} is {types}, {others} {before}")
        elif settings != old_settings:
            found.append(f"its {kind} ({types}) has other settings")
    return f"; {' and '.join(found)}" if found else ""


def _begun_alike(
    own: TokenizerFacts, other: TokenizerFacts, name: str, others: str, severity: Callable[..., Outcome]
) -> Iterator[Outcome]:
    if own.front_ids != other.front_ids:
        yield severity(
            f"{name} writes {list(own.front_ids)} in front of a text, {others} {list(other.front_ids)}",
            {"found": list(own.front_ids), "expected": list(other.front_ids)},
            "Plain text starts otherwise than in training; and so do chat prompts, where a processor encodes them.",
            "Restore post_processor in tokenizer.json from the base.",
        )


CHECK = Check(
    "tokenizer_unchanged",
    "Ordinary text has the ids that the weights were trained with",
    base_tokenizer_unchanged,
    adapter_tokenizer_unchanged,
    why=WHY,
)
