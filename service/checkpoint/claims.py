"""Collects what every file of a folder says about special, stop and placeholder ids.

Does not know which of two claims is right.
"""

from collections.abc import Mapping
from typing import Any

from service.checkpoint.documents import Documents
from service.domain.facts import IdClaim, TokenizerFacts

CONFIG, GENERATION = "config.json", "generation_config.json"
MARKER_KEYS = ("image_start_id", "image_end_id", "slice_start_id", "slice_end_id", "newline_id")
"""Ids that MiniCPM-V 4.7 keeps in config.json without `token` in their names."""
NEWLINES = ("Ċ", "\n", "<0x0A>")
"""How vocabularies spell a line break: byte-level, plain, byte fallback."""


def collect_claims(documents: Documents, tokenizer: TokenizerFacts | None) -> tuple[IdClaim, ...]:
    """Read the claims of config.json (top level and text part), generation_config.json and the tokenizer.

    A value that is no id becomes a problem of its file.
    """
    config = documents.json(CONFIG)
    claims = [
        *_id_claims(documents, CONFIG, config),
        *_id_claims(documents, CONFIG, _text_part(config), "text_config."),
        *_id_claims(documents, GENERATION, documents.json(GENERATION)),
    ]
    if tokenizer:
        for name, token_id in tokenizer.named.items():
            ids = () if token_id is None else (token_id,)
            claims.append(IdClaim(name, f"tokenizer: {name}", ids, tokenizer.texts[name]))
        if newline := next((one for one in NEWLINES if one in tokenizer.vocabulary), None):
            claims.append(IdClaim("newline_token", "tokenizer: line break", (tokenizer.vocabulary[newline],), newline))
    return tuple(claims)


def stop_ids(documents: Documents) -> tuple[int, ...]:
    """Return the stop set that generation uses: generation_config.json's, else config.json's."""
    config = documents.json(CONFIG)
    for source in (documents.json(GENERATION), config, _text_part(config)):
        if ids := _ids(source.get("eos_token_id")):
            return ids
    return ()


def text_vocab_size(documents: Documents) -> int | None:
    """Return the vocabulary size that the language part declares."""
    config = documents.json(CONFIG)
    for part in (_text_part(config), config):
        size = part.get("vocab_size")
        if isinstance(size, int) and not isinstance(size, bool):
            return size
        if size is not None:
            documents.note(CONFIG, f"has vocab_size {_shown(size)} where an integer is expected")
            return None
    return None


def declared_tie(config: Mapping[str, Any]) -> bool | None:
    """Return `tie_word_embeddings`: the top level decides in transformers, then the text part."""
    for part in (config, _text_part(config)):
        if isinstance(tie := part.get("tie_word_embeddings"), bool):
            return tie
    return None


def _id_claims(documents: Documents, file: str, part: Mapping[str, Any], prefix: str = "") -> list[IdClaim]:
    """Turn every `*_token_id`, and the markers' ids, into a claim about the role `*_token`."""
    claims = []
    for key, value in part.items():
        if not (key.endswith("_token_id") or key in MARKER_KEYS) or value is None:
            continue
        role = key.removesuffix("_id").removesuffix("_token") + "_token"
        values = value if isinstance(value, list) else [value]
        ids = tuple(one for one in _ids(value) if one >= 0 or role != "pad_token")  # -1: no padding, in old configs
        if len(_ids(value)) != len(values):
            documents.note(file, f"has {prefix}{key} {_shown(value)} where an id is expected")
        if ids:
            claims.append(IdClaim(role, f"{file}: {prefix}{key}", ids))
    return claims


def _ids(value: Any) -> tuple[int, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(one for one in values if isinstance(one, int) and not isinstance(one, bool))


def _shown(value: Any) -> str:
    return repr(value)[:80]


def _text_part(config: Mapping[str, Any]) -> Mapping[str, Any]:
    part = config.get("text_config")
    return part if isinstance(part, dict) else {}
