"""Asks a tokenizer whether text survives it, without any other tokenizer to compare with.

Does not know which ids the model expects.
"""

import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from service.domain.facts import AddedToken, Contradiction

MAX_SAMPLED = 1500
"""Of a quarter of a million tokens: enough to see a tenth that is lost."""
SHOWN = 8
REPLACEMENT = "\ufffd"


def is_byte_level(document: Mapping[str, Any]) -> bool:
    """Say whether a `tokenizer.json` spells bytes, by its pre-tokenizer, its decoder or the letters of its tokens."""
    parts = str(document.get("pre_tokenizer")) + str(document.get("decoder"))
    vocabulary = (document.get("model") or {}).get("vocab")
    return "ByteLevel" in parts or (isinstance(vocabulary, dict) and "Ġ" in vocabulary and "Ċ" in vocabulary)


def lossy_texts(raw: Any, texts: Iterable[str]) -> dict[str, str]:
    """Encode and decode ASCII texts; return those that come back as something else, with that.

    Spaces at both ends do not count: SentencePiece writes one in front.
    """
    found = {}
    for text in texts:
        if text.isascii():
            back = raw.decode(raw.encode(text, add_special_tokens=False).ids, skip_special_tokens=False)
            if unicodedata.normalize("NFC", back).strip() != text.strip():
                found[text] = back
    return found


def unreachable_tokens(
    raw: Any, vocabulary: Mapping[str, int], added: Mapping[str, AddedToken]
) -> tuple[int, list[str]]:
    """Decode ordinary tokens one by one and encode their text again.

    Returns:
        How many were tried, and those whose text becomes other tokens: Magikarp's unreachable ones. A sound byte-level
        tokenizer has a few; one whose merges, splitting or decoder were lost has many.
    """
    ordinary = [(text, one) for text, one in vocabulary.items() if text not in added]
    step = max(1, len(ordinary) // MAX_SAMPLED)
    sample = [(text, one, raw.decode([one], skip_special_tokens=False)) for text, one in ordinary[::step]]
    whole = [(text, one, decoded) for text, one, decoded in sample if decoded and REPLACEMENT not in decoded]
    encoded = raw.encode_batch([decoded for _, _, decoded in whole], add_special_tokens=False)
    lost = [text for (text, one, _), back in zip(whole, encoded, strict=True) if back.ids != [one]]
    return len(whole), lost


def contradictions(
    config: Mapping[str, Any], added_tokens: Mapping[str, Any], vocabulary: Mapping[str, int]
) -> tuple[Contradiction, ...]:
    """Compare the ids that other files give to tokens with those that `tokenizer.json` gives.

    Args:
        config: tokenizer_config.json.
        added_tokens: added_tokens.json.
        vocabulary: Ids by token, added ones included.
    """
    found = []
    decoder = config.get("added_tokens_decoder")
    listed: list[tuple[str, object, object]] = [
        ("tokenizer_config.json: added_tokens_decoder", one.get("content"), token_id)
        for token_id, one in (decoder.items() if isinstance(decoder, dict) else ())
        if isinstance(one, dict)
    ]
    listed += [("added_tokens.json", token, token_id) for token, token_id in added_tokens.items()]
    for file, token, token_id in listed:
        real = vocabulary.get(token) if isinstance(token, str) else None
        if real is not None and str(token_id).isdecimal() and int(str(token_id)) != real:
            found.append(Contradiction(file, str(token), int(str(token_id)), real))
    return tuple(found)
