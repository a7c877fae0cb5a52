"""Check of the flags of added tokens: special, and how they treat the text around them.

Knows no id.
"""

from collections.abc import Iterator

from service.audit.check import AdapterView, BaseView, Check, Outcome, fatal, warning
from service.audit.older_minicpmv import added_markers
from service.audit.usage import IDLE_ROLES, needed_texts
from service.domain.facts import AddedToken, BaseFacts, TemplateFacts, TokenizerFacts

CHATML = ("<|im_start|>", "<|im_end|>")
"""Tokens of turns, which have no flag of the kind in any official MiniCPM or Qwen tokenizer."""
FAMILIES = ("minicpm", "qwen")
"""What the types of these models begin with; MiniCPM4, as a Llama, is told by an id."""
ID_OF_MINICPM4 = ("<|im_end|>", 73440)
EATING = ("lstrip", "rstrip", "single_word")
RESTORE = "Restore the flags of added_tokens in tokenizer.json from the base: minicpm-service repair."
WHY = """\
Each added token carries flags. `special` says that it structures prompts: decoding may leave it out, and a client that
types it must not be able to open a turn. `lstrip` and `rstrip` make it swallow the white space beside it, so that the
line break behind `<|im_start|>assistant` never reaches the model; `single_word` keeps it from being found inside text;
`normalized` lets the normalizer change it. Re-saving with another library version, or a loader that adds a token again,
changes flags without a word (LLaMA-Factory#7253).

No official MiniCPM or Qwen tokenizer has `lstrip` or `rstrip` on the tokens of ChatML: where rendered conversations
lose line breaks beside these, the folder is refused. Other families were trained with such flags, so that they are a
warning."""


def base_token_flags(view: BaseView) -> Iterator[Outcome]:
    """Look at the flags of tokens in use, and compare them with the origin's."""
    base = view.base
    if base.tokenizer is None:
        return
    origin = view.origin.base.tokenizer if view.origin else None
    yield from _structure_is_special(base.tokenizer, base.template, origin)
    if origin:
        needed = needed_texts(base) | added_markers(base)
        yield from _same_flags(base.tokenizer, origin, needed, "the tokenizer", "the origin's")
    else:
        split = base.template.split_markers if base.template else ()  # chat_template says so
        swallowing = _turns_swallow(base)
        yield from swallowing
        if not swallowing:
            yield from _nothing_is_eaten(base.tokenizer, set(needed_texts(base)).difference(split))


def adapter_token_flags(view: AdapterView) -> Iterator[Outcome]:
    """Compare the flags of an adapter's own tokenizer with the base's."""
    own, base = view.adapter.tokenizer, view.base.tokenizer
    if own and base:
        needed = needed_texts(view.base) | added_markers(view.base)
        yield from _same_flags(own, base, needed, "the adapter's tokenizer", "the base's")


def _same_flags(
    own: TokenizerFacts, other: TokenizerFacts, used: set[str], name: str, others: str
) -> Iterator[Outcome]:
    changed = {
        text: {"expected": _spelled(one), "found": _spelled(own.added[text])}
        for text, one in other.added.items()
        if text in own.added and _spelled(own.added[text]) != _spelled(one)
    }
    if changed:
        is_used = any(text in used for text in changed)
        text, flags = next(iter(changed.items()))
        yield (fatal if is_used else warning)(
            f"{name} has {len(changed)} added token(s) with other flags than {others}, first {text}: "
            f"{flags['found'] or 'none'} instead of {flags['expected'] or 'none'}",
            {"tokens": dict(list(changed.items())[:50]), "count": len(changed)},
            "Text beside the token is swallowed, or the token shows in answers or acts when a client types it.",
            RESTORE,
        )


def _structure_is_special(
    tokenizer: TokenizerFacts, template: TemplateFacts | None, origin: TokenizerFacts | None
) -> Iterator[Outcome]:
    """Tokens with a role, and the one that ends turns, must be special; reasoning marks need not be."""
    if origin:
        return  # compared flag by flag
    named = {text for name, text in tokenizer.texts.items() if name not in IDLE_ROLES}
    needed = named | ({template.turn_end} if template and template.turn_end else set())
    plain = sorted(text for text in needed if text in tokenizer.added and not tokenizer.added[text].is_special)
    if plain:
        yield fatal(
            f"{', '.join(plain[:5])} structure prompts, but tokenizer.json does not call them special",
            {"tokens": {text: tokenizer.added[text].token_id for text in plain}},
            "A client that types one opens or ends turns, and answers show it as text.",
            RESTORE,
        )


def _turns_swallow(base: BaseFacts) -> list[Outcome]:
    """Rendered conversations lose the line breaks beside the tokens of ChatML, which every release was trained with."""
    template, tokenizer = base.template, base.tokenizer
    if template is None or tokenizer is None:
        return []
    is_official = (
        base.model_type.startswith(FAMILIES) or tokenizer.vocabulary.get(ID_OF_MINICPM4[0]) == ID_OF_MINICPM4[1]
    )
    lost = template.swallowed
    turns = [text for text in CHATML if text in lost]
    if not turns or not is_official:
        return []
    flags = {text: list(tokenizer.added[text].flags) for text in lost if text in tokenizer.added}
    shown = ", ".join(f"{text} takes {lost[text]!r}" for text in turns)
    return [
        fatal(
            f"tokens of turns swallow white space of every conversation by their flags lstrip and rstrip: {shown}",
            {"swallowed": dict(lost), "flags": flags},
            "The line breaks between turns and behind roles never reach the model: it was trained with them, and "
            "answers go wrong or do not end.",
            RESTORE,
        )
    ]


def _nothing_is_eaten(tokenizer: TokenizerFacts, used: set[str]) -> Iterator[Outcome]:
    eating = {
        text: [flag for flag in one.flags if flag in EATING]
        for text, one in tokenizer.added.items()
        if text in used and set(one.flags) & set(EATING)
    }
    if eating:
        text, flags = next(iter(eating.items()))
        yield warning(
            f"{len(eating)} token(s) of the prompt change the text beside them, first {text}: {', '.join(flags)}",
            {"tokens": eating},
            "White space beside the token does not reach the model, unless it was trained so.",
            "Compare with the base: audit --base, or restore the flags in tokenizer.json.",
        )


def _spelled(token: AddedToken) -> list[str]:
    return [*(["special"] if token.is_special else []), *token.flags]


CHECK = Check(
    "token_flags", "Added tokens have the flags that training used", base_token_flags, adapter_token_flags, why=WHY
)
