"""Which tokens may never end an answer: what opens turns, and what marks or stands for a picture.

Judges nothing. The last token in front of an answer opens it; ChatML's `<|im_start|>` does in every template.
"""

from service.audit.checks.tokens import PICTURE_ROLES
from service.audit.older_minicpmv import config_of, marker_texts
from service.domain.facts import BaseFacts

CHATML_START = "<|im_start|>"
OPENS, FEATURES, MARKS = "opens turns", "stands for the features of a picture", "marks pictures"


def never_stops(base: BaseFacts) -> dict[int, tuple[str, str]]:
    """Return text and part of each token of a base that may not be among its stop ids, by id."""
    tokenizer, template = base.tokenizer, base.template
    if tokenizer is None:
        return {}
    texts = {CHATML_START: OPENS}
    if template and template.turn_end and (opener := _opener(base)):
        texts[opener] = OPENS
    texts |= {text: MARKS for role, text in tokenizer.texts.items() if role in PICTURE_ROLES}
    if config_of(base):
        texts |= {text: FEATURES if name == "unk" else MARKS for name, text in marker_texts(base).items()}
    ends = {template.turn_end} if template else set()
    known = {one: part for one, part in texts.items() if one in tokenizer.vocabulary and one not in ends}
    return {tokenizer.vocabulary[one]: (one, part) for one, part in known.items()}


def _opener(base: BaseFacts) -> str:
    """Return the last added token between a question and its answer."""
    asked = base.template.openings[0] if base.template else ""
    tokens = [one for one in base.tokenizer.added if one in asked] if base.tokenizer else []
    return max(tokens, key=lambda one: (asked.rfind(one), len(one)), default="")
