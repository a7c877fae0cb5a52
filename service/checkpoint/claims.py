"""Collects what every file of a folder says about special, stop and placeholder ids.

Does not know which of two claims is right.
"""

from collections.abc import Mapping
from typing import Any

from service.checkpoint.documents import Documents
from service.domain.facts import IdClaim, TokenizerFacts

ROLES = ("eos_token", "bos_token", "pad_token")
"""Roles that also `generation_config.json` may set."""


def collect_claims(documents: Documents, tokenizer: TokenizerFacts | None) -> tuple[IdClaim, ...]:
    """Read the claims of config.json (top level and text part), generation_config.json and the tokenizer."""
    config = documents.json("config.json")
    claims = [
        *_id_claims(config, "config.json: "),
        *_id_claims(_text_part(config), "config.json: text_config."),
        *_id_claims(documents.json("generation_config.json"), "generation_config.json: "),
    ]
    if tokenizer:
        for name, token_id in tokenizer.named.items():
            ids = () if token_id is None else (token_id,)
            claims.append(IdClaim(name, f"tokenizer: {name}", ids, tokenizer.texts[name]))
    return tuple(claims)


def stop_ids(documents: Documents) -> tuple[int, ...]:
    """Return the stop set that generation uses: generation_config.json's, else config.json's."""
    config = documents.json("config.json")
    for source in (documents.json("generation_config.json"), config, _text_part(config)):
        if ids := _ids(source.get("eos_token_id")):
            return ids
    return ()


def text_vocab_size(config: Mapping[str, Any]) -> int | None:
    """Return the vocabulary size that the language part declares."""
    for part in (_text_part(config), config):
        if isinstance(size := part.get("vocab_size"), int):
            return size
    return None


def declared_tie(config: Mapping[str, Any]) -> bool | None:
    """Return `tie_word_embeddings`: the top level decides in transformers, then the text part."""
    for part in (config, _text_part(config)):
        if isinstance(tie := part.get("tie_word_embeddings"), bool):
            return tie
    return None


def _id_claims(document: Mapping[str, Any], prefix: str) -> list[IdClaim]:
    """Turn every `*_token_id` key, in either spelling, into a claim about the role `*_token`."""
    claims = []
    for key, value in document.items():
        if key.endswith("_token_id") and (ids := _ids(value)):
            claims.append(IdClaim(key.removesuffix("_id"), prefix + key, ids))
    return claims


def _ids(value: Any) -> tuple[int, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(one for one in values if isinstance(one, int) and not isinstance(one, bool))


def _text_part(config: Mapping[str, Any]) -> Mapping[str, Any]:
    part = config.get("text_config")
    return part if isinstance(part, dict) else {}
