"""Judges the token that a tokenizer's files call the end of a text.

Knows no id of generation_config.json but the stop ids that follow from it.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from service.audit.check import Outcome, fatal, warning
from service.domain.facts import TemplateFacts, TokenizerFacts

MAP, CONFIG, END = "special_tokens_map.json", "tokenizer_config.json", "eos_token"
Documents = Mapping[str, Mapping[str, Any]]


def named_end(
    tokenizer: TokenizerFacts, template: TemplateFacts | None, documents: Documents, stops: Collection[int], name: str
) -> Iterator[Outcome]:
    """Look for an end that stands inside prompts, and for files that name different ends.

    Args:
        tokenizer: As it is loaded.
        template: Its chat template.
        documents: Of the folder that holds its files.
        stops: What ends answers in this service.
        name: Whose tokenizer it is.
    """
    mapped, configured = _end(documents.get(MAP, {})), _end(documents.get(CONFIG, {}))
    text = tokenizer.texts.get(END)
    token_id = tokenizer.named.get(END)
    source = MAP if mapped == text and mapped != configured else CONFIG
    opening = template.control_tokens if template and template.turn_end else {}
    if text in opening and template and text != template.turn_end and token_id not in stops:
        yield fatal(
            f"{name} calls {text} (id {token_id}) its {END}, by {source}: the chat template writes it inside prompts, "
            f"and ends turns with {template.turn_end}",
            {"eos_token": text, "id": token_id, "turn_end": template.turn_end, "file": source},
            "Trainers and servers that ask the tokenizer end texts at the beginning of a turn, and never at its end: "
            "answers run on.",
            f'Write "{END}": "{template.turn_end}" into {source}.',
        )
    elif mapped and configured and mapped != configured:
        wanted = template.turn_end if template and template.turn_end in (mapped, configured) else configured
        yield warning(
            f"{MAP} calls {mapped} the {END}, {CONFIG} {configured}; transformers reads {text}",
            {MAP: mapped, CONFIG: configured, "read": text},
            "Which of the two ends an answer depends on the library and its version: elsewhere answers run on.",
            f'Write "{END}": "{wanted}" into both files, or delete {MAP}: nothing else needs it.',
        )


def _end(document: Mapping[str, Any]) -> str | None:
    """Return the token, which is a string or an object with a `content`."""
    said = document.get(END)
    text = said.get("content") if isinstance(said, dict) else said
    return text if isinstance(text, str) else None
