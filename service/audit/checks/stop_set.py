"""Check of the stop set: does an answer end where the template says that it does.

Knows no tensor.
"""

import re
from collections.abc import Iterator

from service.audit.check import AdapterView, BaseView, Check, Outcome, fatal, note, warning
from service.audit.checks.named_end import named_end
from service.audit.stops import never_stops
from service.audit.trust import is_tokenizer_sound
from service.domain.facts import BaseFacts, TemplateFacts

THOUGHT = re.compile(r"</?think\w*>")

WHY = """\
Generation ends at the ids of `eos_token_id` in generation_config.json, or of config.json where that file is missing.
The chat template closes an answer with a token of its own, `<|im_end|>` in ChatML. If that token is not among the stop
ids, the model ends its answer and is made to go on: it invents the user's next turn. Merging with a library that writes
a fresh generation_config.json loses all but one of the ids (MiniCPM-V#373, vllm#4180). The opposite fault, an ordinary
token among the stop ids, cuts answers off wherever the token occurs; and a token that opens turns or marks pictures has
no place there, in generation_config.json or config.json: two tokenizers were mixed, or ids were written by hand.

Other servers, and trainers, also ask the tokenizer for its `eos_token`. special_tokens_map.json names it once more, and
transformers 5.23 believes that file where tokenizer_config.json has no `added_tokens_decoder`, which its own saving
leaves out: a map of another revision changes the end of texts without a word."""


def base_stop_set(view: BaseView) -> Iterator[Outcome]:
    """Compare the stop ids with the token that the template writes behind an answer."""
    base = view.base
    if base.tokenizer is None:
        return  # special_ids says that nothing can be compared
    if not base.stop_ids:
        yield fatal(
            "neither generation_config.json nor config.json names an eos_token_id",
            {"turn_end": base.template.turn_end if base.template else None},
            "Answers never end before max_new_tokens.",
            "Copy the base model's generation_config.json.",
        )
        return
    if is_tokenizer_sound(view):  # else other checks say so, and its ids are those of other tokens
        yield from _turn_end_stops(base.template, base.stop_ids, "the chat template")
        yield from _stops_are_no_text(base)
        yield from _stops_are_no_thought(base)
        yield from _stops_open_nothing(base)
        yield from _end_is_allowed(base)
    yield from named_end(base.tokenizer, base.template, base.documents, base.stop_ids, "the tokenizer")
    lost = sorted(set(view.origin.base.stop_ids) - set(base.stop_ids)) if view.origin else []
    if lost:
        is_used = base.template is not None and bool(set(lost) & set(base.template.control_tokens.values()))
        yield (warning if is_used else note)(
            f"the origin also stops at {', '.join(map(str, lost))}, this folder stops at {list(base.stop_ids)} only",
            {"lost": lost, "stop_ids": list(base.stop_ids)},
            "Answers that end with the lost token go on.",
            f"Write {sorted({*base.stop_ids, *lost})} as eos_token_id into generation_config.json.",
        )


def adapter_stop_set(view: AdapterView) -> Iterator[Outcome]:
    """Compare the base's stop ids with the adapter's own template."""
    template, known = view.adapter.template, view.base.tokenizer
    if template and known and template.turn_end and known.vocabulary.get(template.turn_end) != template.turn_end_id:
        return  # its id moved, which special_ids says
    yield from _turn_end_stops(template, view.base.stop_ids, "the adapter's chat template")
    if view.adapter.tokenizer:
        documents, stops = view.adapter.documents, view.base.stop_ids
        yield from named_end(view.adapter.tokenizer, template, documents, stops, "the adapter's tokenizer")


def _turn_end_stops(template: TemplateFacts | None, stops: tuple[int, ...], name: str) -> Iterator[Outcome]:
    if template and stops and template.turn_end_id is not None and template.turn_end_id not in stops:
        yield fatal(
            f"{name} ends an answer with {template.turn_end} (id {template.turn_end_id}), "
            f"which is not among the stop ids {list(stops)}",
            {"turn_end": template.turn_end, "id": template.turn_end_id, "stop_ids": list(stops)},
            "The model ends its answer and is made to go on: it invents the user's next turn.",
            f"Add {template.turn_end_id} to eos_token_id in generation_config.json.",
        )


def _stops_are_no_text(base: BaseFacts) -> Iterator[Outcome]:
    """Look for stop ids that ordinary text contains. A token with a name, such as SentencePiece's `</s>`, is none."""
    tokenizer = base.tokenizer
    if tokenizer is None:
        return
    known = {one.token_id for one in tokenizer.added.values()} | set(tokenizer.named.values())
    texts = {token_id: text for text, token_id in tokenizer.vocabulary.items() if token_id in base.stop_ids}
    ordinary = {one: text for one, text in texts.items() if one not in known and not text.startswith("<")}
    if ordinary:
        token_id, text = next(iter(ordinary.items()))
        yield fatal(
            f"stop id {token_id} is {text!r}, a piece of ordinary text",
            {"tokens": {text: one for one, text in ordinary.items()}, "stop_ids": list(base.stop_ids)},
            "Every answer is cut off at the first place where the piece occurs.",
            f"Take {token_id} out of eos_token_id in generation_config.json.",
        )


def _stops_are_no_thought(base: BaseFacts) -> Iterator[Outcome]:
    """A thought stands inside an answer: what opens or closes one must not end it."""
    added = base.tokenizer.added if base.tokenizer else {}
    if thoughts := {text: one.token_id for text, one in added.items() if THOUGHT.fullmatch(text)}:
        text, token_id = next(((text, one) for text, one in thoughts.items() if one in base.stop_ids), ("", -1))
        if text:
            yield fatal(
                f"stop id {token_id} is {text}, which stands inside answers",
                {"token": text, "id": token_id, "stop_ids": list(base.stop_ids)},
                "An answer with a thought is cut off before the answer itself begins.",
                f"Take {token_id} out of eos_token_id in generation_config.json.",
            )


def _stops_open_nothing(base: BaseFacts) -> Iterator[Outcome]:
    """Look in both files: this service follows generation_config.json, official `chat()` of MiniCPM-V config.json."""
    never = never_stops(base)
    found: dict[int, list[str]] = {}
    for claim in base.claims:
        if claim.role == "eos_token" and not claim.source.startswith("tokenizer"):
            for token_id in (one for one in claim.token_ids if one in never):
                found.setdefault(token_id, []).append(claim.source)
    for token_id, sources in found.items():
        text, part = never[token_id]
        yield fatal(
            f"stop id {token_id} is {text}, which {part} ({', '.join(sources)})",
            {"token": text, "id": token_id, "sources": sources, "stop_ids": list(base.stop_ids)},
            "It stands in prompts and ends nothing: where a file names it instead of the end of turns, answers run on.",
            f"Take {token_id} out of {' and '.join(sources)}: minicpm-service repair.",
        )


def _end_is_allowed(base: BaseFacts) -> Iterator[Outcome]:
    """This service samples as a request says; transformers takes bans from the file."""
    config = base.documents.get("generation_config.json", {})
    words = config.get("bad_words_ids")
    banned = [one[0] for one in words if isinstance(one, list) and len(one) == 1] if isinstance(words, list) else []
    suppressed = config.get("suppress_tokens")
    banned += suppressed if isinstance(suppressed, list) else []
    if base.template and base.template.turn_end_id in banned:
        yield warning(
            f"generation_config.json forbids {base.template.turn_end} (id {base.template.turn_end_id}), which ends "
            "answers",
            {"turn_end": base.template.turn_end, "id": base.template.turn_end_id},
            "transformers, and servers that read the file, never write it: answers run on until max_new_tokens.",
            f"Take {base.template.turn_end_id} out of suppress_tokens and bad_words_ids.",
        )


CHECK = Check(
    "stop_set",
    "Answers end with the token that the template closes them with",
    base_stop_set,
    adapter_stop_set,
    why=WHY,
)
