"""Judges how a chat template marks pictures: each once, with what the processor looks for and nothing it writes itself.

Knows no turn and no row.
"""

from collections.abc import Collection, Iterator

from service.audit.check import Outcome, fatal
from service.audit.checks.tokens import NEEDED_ROLES, PICTURE_ROLES
from service.audit.older_minicpmv import config_of, marker_texts
from service.audit.template_wording import COPY, SPOKEN
from service.domain.facts import BaseFacts, TemplateFacts, TokenizerFacts

NUM_PICTURES = {"picture": 1, "pictures": 2}
MARKER_ROLES = tuple(one for one in PICTURE_ROLES if one not in ("image_token", "video_token"))


def pictures_are_marked(template: TemplateFacts, tokenizer: TokenizerFacts, name: str) -> Iterator[Outcome]:
    """Count the placeholders that a template writes for a message with pictures."""
    placeholder = tokenizer.texts.get("image_token")
    if placeholder is None:
        return  # special_ids says so
    for conversation, count in NUM_PICTURES.items():
        found = template.placeholders.get(conversation)
        if found != count:
            shown = "refuses it" if found is None else f"writes {placeholder} {found} time(s)"
            yield fatal(
                f"for a message with {count} picture(s) {name} {shown}",
                {"pictures": count, "placeholders": found, "placeholder": placeholder},
                "The processor finds no place for the picture, or too many: requests with pictures fail or ignore it.",
                COPY,
            )
            return


def markers_are_the_processor_s(
    template: TemplateFacts, tokenizer: TokenizerFacts, markers: Collection[str], name: str
) -> Iterator[Outcome]:
    """Look for the markers that the processor writes around every picture: a template that does too doubles them."""
    others = [one for one in markers if one != template.turn_end]  # that `stop_set` refuses
    counts = {
        conversation: {text: found for text in others if (found := (ids or ()).count(_id_of(text, tokenizer)))}
        for conversation, ids in template.conversations.items()
        if conversation in SPOKEN or template.placeholders.get(conversation) == NUM_PICTURES.get(conversation, 0)
    }
    doubled = {conversation: found for conversation, found in counts.items() if found}
    if not doubled:
        return
    in_text = [one for one in SPOKEN if one in doubled]
    conversation = in_text[0] if in_text else next(iter(doubled))
    shown = " and ".join(f"{text} ({count} time(s))" for text, count in doubled[conversation].items())
    where = "into a conversation without a picture" if in_text else "for a picture"
    yield fatal(
        f"{name} writes {shown} {where}; the processor writes these markers itself around every picture",
        {"markers": doubled},
        "Where no picture is, the model looks for one."
        if in_text
        else "Every picture is marked twice, as training never saw it: answers about pictures get worse, and no "
        "request fails.",
        f"Write the placeholder {tokenizer.texts.get('image_token', '')} alone for a picture. {COPY}"
        if "image_token" in tokenizer.texts
        else COPY,
    )


def _id_of(text: str, tokenizer: TokenizerFacts) -> int:
    return tokenizer.vocabulary.get(text, -1)


def markers_of(base: BaseFacts, tokenizer: TokenizerFacts) -> list[str]:
    """Return the tokens that a processor writes around pictures, as it reads their names."""
    if base.model_type in NEEDED_ROLES:
        return [tokenizer.texts[one] for one in MARKER_ROLES if one in tokenizer.texts]
    return [text for key, text in marker_texts(base).items() if key != "unk"] if config_of(base) else []
