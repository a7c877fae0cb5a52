"""Check of a tokenizer by itself: does text survive it.

Knows no other tokenizer to compare with.
"""

import re
from collections.abc import Iterator

from service.audit.check import AdapterView, BaseView, Check, Outcome, fatal
from service.domain.facts import TokenizerFacts

MAX_UNREACHABLE = 0.2
"""Share of ordinary tokens that do not come back as themselves: real vocabularies stay below 0.05."""
MIN_MERGES = 0.9
"""Merges for each token of several letters, below which they are to blame; a sound BPE has 1 or more."""
BYTE = re.compile(r"<0x[0-9A-F]{2}>")
MAX_DISORDER = 0.25
"""Share of merges that may go back in the vocabulary; a random order has 0.5."""
WHY = """\
A tokenizer is a pipeline: normalizer, pre-tokenizer, merges, decoder. Converting, editing or re-saving tokenizer.json
can lose a part of it, and nothing fails: prompts arrive in other pieces than in training, or answers come out with `Ġ`
and `Ċ` in them. Two properties hold for every tokenizer that works, and need no other file to compare with: plain text
comes back when it is encoded and decoded, and nearly every token of a byte-level vocabulary, decoded alone, or every
word of SentencePiece's, is encoded as itself ("Fishing for Magikarp" calls the others unreachable). A third holds for
BPE: ids ascend in the order of the merges, as both are written down while the vocabulary is learned.

What is to blame is found by leaving one part after another out: a normalizer such as `Lowercase`, the
`add_prefix_space` of a pre-tokenizer, a splitting, a decoder that is missing; or merges are counted, of which every
token of several letters needs one. `dropout`, which training may set, leaves merges out at random in service too."""


def base_tokenizer_sound(view: BaseView) -> Iterator[Outcome]:
    """Look at the base's tokenizer."""
    if view.base.tokenizer:
        yield from _sound(view.base.tokenizer)


def adapter_tokenizer_sound(view: AdapterView) -> Iterator[Outcome]:
    """Look at an adapter's own tokenizer."""
    if view.adapter.tokenizer:
        yield from _sound(view.adapter.tokenizer)


def _sound(tokenizer: TokenizerFacts) -> Iterator[Outcome]:
    yield from _ordered(tokenizer)
    if tokenizer.dropout:
        yield fatal(
            f"tokenizer.json has a dropout of {tokenizer.dropout:g}: so many merges are left out at random",
            {"dropout": tokenizer.dropout},
            "The same prompt has other ids each time, most of them of pieces that training hardly saw.",
            'Write "dropout": null into the model of tokenizer.json.',
        )
        return
    blamed = _blamed(tokenizer)
    if tokenizer.lossy:
        text, back = next(iter(tokenizer.lossy.items()))
        yield fatal(
            f"{len(tokenizer.lossy)} of the fixed strings do not survive encoding and decoding: "
            f"{text[:40]!r} comes back as {back[:40]!r}{_because(blamed)}",
            {"strings": {text: back[:200] for text, back in list(tokenizer.lossy.items())[:10]}, "blamed": blamed},
            "Prompts lose characters on their way in, or answers are written with the wrong ones.",
            "Restore normalizer, pre_tokenizer and decoder in tokenizer.json from the base: minicpm-service repair.",
        )
    elif not is_reachable(tokenizer):
        share = 100 * tokenizer.num_unreachable / tokenizer.num_sampled
        yield fatal(
            f"{share:.0f} % of {tokenizer.num_sampled} sampled tokens cannot be reached: the text of "
            f"{tokenizer.unreachable[0]!r} is encoded as other tokens{_because(blamed)}",
            {
                "blamed": blamed,
                "sampled": tokenizer.num_sampled,
                "unreachable": tokenizer.num_unreachable,
                "examples": list(tokenizer.unreachable),
                "limit": MAX_UNREACHABLE,
            },
            "Merges or the splitting were lost: every prompt reaches the model in pieces that it was not trained on.",
            "Restore tokenizer.json from the base model and add new tokens again: minicpm-service repair.",
        )


def _ordered(tokenizer: TokenizerFacts) -> Iterator[Outcome]:
    if tokenizer.disorder > MAX_DISORDER:
        yield fatal(
            f"{100 * tokenizer.disorder:.0f} % of the merges in tokenizer.json make a token with a lower id than the "
            "merge before; where both were trained together, next to none do",
            {"share": round(tokenizer.disorder, 4), "limit": MAX_DISORDER},
            "The vocabulary was numbered anew, or is another model's than the merges: every prompt gets the ids of "
            "other words.",
            "Copy tokenizer.json from the base model and add new tokens again: minicpm-service repair.",
        )


def _blamed(tokenizer: TokenizerFacts) -> str:
    """Name the part that is to blame: what is there and should not be, or merges that are not there."""
    merges = tokenizer.num_merges
    if tokenizer.blamed or merges is None or not (tokenizer.lossy or tokenizer.num_unreachable):
        return tokenizer.blamed
    ordinary = tokenizer.vocabulary.keys() - tokenizer.added.keys()
    made = sum(len(one) > 1 and BYTE.fullmatch(one) is None for one in ordinary)
    return f"merges: {merges} for {made} tokens of several letters" if merges < MIN_MERGES * made else ""


def _because(blamed: str) -> str:
    return f"; to blame is {blamed}" if blamed else ""


def is_reachable(tokenizer: TokenizerFacts) -> bool:
    """Say whether nearly every sampled token comes back as itself."""
    return tokenizer.num_unreachable <= MAX_UNREACHABLE * tokenizer.num_sampled


CHECK = Check("tokenizer_sound", "Text survives the tokenizer", base_tokenizer_sound, adapter_tokenizer_sound, why=WHY)
