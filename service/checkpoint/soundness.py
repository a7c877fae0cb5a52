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
SPACE = "▁"
MIN_WORDS = 20
"""Vocabularies with fewer are not SentencePiece's."""
REPLACEMENT = "\ufffd"


def is_byte_level(document: Mapping[str, Any]) -> bool:
    """Say whether a `tokenizer.json` spells bytes, by its pre-tokenizer, its decoder or the letters of its tokens."""
    parts = str(document.get("pre_tokenizer")) + str(document.get("decoder"))
    vocabulary = (document.get("model") or {}).get("vocab")
    return "ByteLevel" in parts or (isinstance(vocabulary, dict) and "Ġ" in vocabulary and "Ċ" in vocabulary)


def lossy_texts(raw: Any, texts: Iterable[str]) -> dict[str, str]:
    """Encode and decode texts; return those that come back as something else, with that.

    Spaces at both ends do not count: SentencePiece writes one in front. Of letters beyond ASCII only the accents count,
    as a sound tokenizer may write a letter in another form, or not know it.
    """
    found = {}
    for text in texts:
        back = raw.decode(raw.encode(text, add_special_tokens=False).ids, skip_special_tokens=False)
        if text.isascii():
            is_lossy = unicodedata.normalize("NFC", back).strip() != text.strip()
        else:
            (bare, accents), (bare_back, accents_back) = _without_accents(text), _without_accents(back)
            is_lossy = bare == bare_back and accents != accents_back
        if is_lossy:
            found[text] = back
    return found


def _without_accents(text: str) -> tuple[str, int]:
    """Take the accents off letters, and count them."""
    letters = unicodedata.normalize("NFKD", text).strip()
    bare = "".join(one for one in letters if not unicodedata.combining(one))
    return bare, len(letters) - len(bare)


def unreachable_tokens(
    raw: Any, vocabulary: Mapping[str, int], added: Mapping[str, AddedToken]
) -> tuple[int, list[str]]:
    """Decode ordinary tokens one by one and encode their text again.

    Returns:
        How many were tried, and those whose text becomes other tokens: Magikarp's unreachable ones. A sound byte-level
        tokenizer has a few; one whose merges, splitting or decoder were lost has many.
    """
    ordinary = _sampled([(text, one) for text, one in vocabulary.items() if text not in added])
    sample = [(text, one, raw.decode([one], skip_special_tokens=False)) for text, one in ordinary]
    whole = [(text, one, decoded) for text, one, decoded in sample if decoded and REPLACEMENT not in decoded]
    encoded = raw.encode_batch([decoded for _, _, decoded in whole], add_special_tokens=False)
    lost = [text for (text, one, _), back in zip(whole, encoded, strict=True) if back.ids != [one]]
    return len(whole), lost


def unreachable_words(
    raw: Any, vocabulary: Mapping[str, int], added: Mapping[str, AddedToken]
) -> tuple[int, list[str]]:
    """Encode the words of a SentencePiece vocabulary, which it marks with `▁`, with a space in front and without.

    Returns:
        How many were tried, and those that become other tokens both times. Pieces from inside words are not tried: no
        text that begins with one can reach it.
    """
    words = _sampled([(text, one) for text, one in vocabulary.items() if _is_word(text) and text not in added])
    if len(words) < MIN_WORDS:
        return 0, []
    plain = [text.removeprefix(SPACE).replace(SPACE, " ") for text, _ in words]
    alone = raw.encode_batch(plain, add_special_tokens=False)
    spaced = raw.encode_batch([f" {one}" for one in plain], add_special_tokens=False)
    lost = [
        text
        for (text, one), first, second in zip(words, alone, spaced, strict=True)
        if [one] not in (first.ids, second.ids)
    ]
    return len(words), lost


def _is_word(text: str) -> bool:
    return text.startswith(SPACE) and len(text.strip(SPACE)) > 0


def _sampled(tokens: list[tuple[str, int]]) -> list[tuple[str, int]]:
    return tokens[:: max(1, len(tokens) // MAX_SAMPLED)]


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
