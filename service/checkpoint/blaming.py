"""Finds the part of a tokenizer.json without which text would survive: a normalizer, a space, a splitting, a decoder.

Does not know how much must be lost for a tokenizer to be unsound.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

BYTES: dict[str, Any] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
PARTS = {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers", "decoder": "decoders"}
"""Parts that other ones can be put in place of, and how a sequence of each is spelled."""
SHARE = 0.5
"""Of what fails that may go on failing without the part that is to blame."""


def blamed_part(document: Mapping[str, Any], raw: Any, num_failing: Callable[[], int], *, is_byte_level: bool) -> str:
    """Return what to call the part without which least fails; empty if at least half fails without any.

    Args:
        document: tokenizer.json.
        raw: The tokenizer made of it; other parts are put into it and taken out again.
        num_failing: Counts what fails with the tokenizer as it is.
        is_byte_level: Its vocabulary spells bytes.
    """
    before = best = num_failing()
    name = ""
    for said, parts in _variants(document, is_byte_level=is_byte_level):
        old = {kind: getattr(raw, kind) for kind in parts}
        try:
            for kind, part in parts.items():
                setattr(raw, kind, _built(kind, part))
            failing = num_failing()
        except BaseException as error:  # the Rust side also panics, which is no Exception
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            continue
        finally:
            for kind, one in old.items():
                setattr(raw, kind, one)
        if failing < best:
            best, name = failing, said
    return name if best <= SHARE * before else ""


def described_parts(document: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return the types of normalizers and splitters, in their order, and their settings as JSON, by kind."""
    return {kind: (_types(document, kind), json.dumps(document.get(kind), sort_keys=True)) for kind in PARTS}


def _variants(document: Mapping[str, Any], *, is_byte_level: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name parts, with what tokenizer.json would say in their place, by kind, if they were sound or gone."""
    for kind in ("normalizer", "pre_tokenizer"):
        parts = _flat(document.get(kind), PARTS[kind])
        for place, one in enumerate(parts):
            if one.get("add_prefix_space") is True:
                sound = [*parts[:place], {**one, "add_prefix_space": False}, *parts[place + 1 :]]
                yield f"the add_prefix_space of pre_tokenizer {one['type']}", {kind: _joined(sound, kind)}
        for place, one in enumerate(parts):
            yield f"{kind} {one.get('type')}", {kind: _joined([*parts[:place], *parts[place + 1 :]], kind)}
    if not is_byte_level:
        return
    splitter, decoder = (_types(document, kind) for kind in ("pre_tokenizer", "decoder"))
    is_decoding, is_splitting = _has_bytes(document, "decoder"), _has_bytes(document, "pre_tokenizer")
    if not is_decoding:
        yield f"the lack of a ByteLevel decoder (decoder: {decoder})", {"decoder": BYTES}
    if not is_splitting:
        parts = _flat(document.get("pre_tokenizer"), PARTS["pre_tokenizer"])
        said = f"the lack of a ByteLevel pre_tokenizer (pre_tokenizer: {splitter})"
        yield said, {"pre_tokenizer": _joined([*parts, BYTES], "pre_tokenizer")}
        yield f"pre_tokenizer {splitter} where ByteLevel belongs", {"pre_tokenizer": BYTES}
    if not (is_decoding or is_splitting):
        said = f"pre_tokenizer {splitter} and decoder {decoder} where ByteLevel belongs"
        yield said, {"pre_tokenizer": BYTES, "decoder": BYTES}


def _flat(part: Any, inner: str) -> list[dict[str, Any]]:
    if not isinstance(part, dict):
        return []
    if part.get("type") == "Sequence":
        return [one for each in part.get(inner) or [] for one in _flat(each, inner)]
    return [part]


def _joined(parts: list[dict[str, Any]], kind: str) -> dict[str, Any] | None:
    return {"type": "Sequence", PARTS[kind]: parts} if parts else None


def _has_bytes(document: Mapping[str, Any], kind: str) -> bool:
    return any(one.get("type") == "ByteLevel" for one in _flat(document.get(kind), PARTS[kind]))


def _types(document: Mapping[str, Any], kind: str) -> str:
    return ", ".join(str(one.get("type")) for one in _flat(document.get(kind), PARTS[kind])) or "none"


def _built(kind: str, part: Any) -> Any:
    """Make one part, by way of a tokenizer that has nothing else."""
    from tokenizers import Tokenizer

    document = {"version": "1.0", "added_tokens": [], "model": {"type": "BPE", "vocab": {}, "merges": []}, kind: part}
    return getattr(Tokenizer.from_str(json.dumps(document)), kind)
