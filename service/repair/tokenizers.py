"""Restores a folder's tokenizer and template from its base as one set, with new tokens at their trained ids.

Knows no matrix.
"""

import json
import shutil
from pathlib import Path

from service.domain.facts import TokenizerFacts
from service.overlay import TOKENIZER_FILES
from service.repair.change import Change

FLAGS = ("single_word", "lstrip", "rstrip", "normalized")
REASON = "ids of the weights are those of the base's tokenizer; files of two versions disagree"


def restore_tokenizer(
    folder: Path, base: Path, own: TokenizerFacts | None, known: TokenizerFacts | None
) -> list[Change]:
    """Copy the base's tokenizer files over a folder's.

    Args:
        folder: The copy to correct.
        base: Where the sound files are.
        own: The folder's tokenizer as it was, for its new tokens; None if it could not be read.
        known: The base's tokenizer.

    Returns:
        The changes; none if the new tokens do not follow the base's ids without a gap, so that no file can hold them.
        Where tokens of the base changed ids, the tokenizer is another base's, and what it has at ids of the base's
        tokens is none of training's.
    """
    if known is None:
        return []
    new = {text: one for text, one in own.added.items() if text not in known.vocabulary} if own else {}
    first = max(known.vocabulary.values()) + 1
    if own and any(own.vocabulary.get(text, one.token_id) != one.token_id for text, one in known.added.items()):
        new = {text: one for text, one in new.items() if one.token_id >= first}
    ordered = sorted(new.items(), key=lambda item: item[1].token_id)
    if [one.token_id for _, one in ordered] != list(range(first, first + len(ordered))):
        return []
    changes = []
    for name in TOKENIZER_FILES:
        source, target = base / name, folder / name
        before = target.read_bytes() if target.is_file() else None
        after = source.read_bytes() if source.is_file() else None
        if before == after:
            continue
        if after is None:
            target.unlink()
        else:
            shutil.copyfile(source, target)
        changes.append(
            Change(name, "the whole file", "present" if before else None, "the base's" if after else None, REASON)
        )
    if ordered:
        document = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        for text, one in ordered:
            flags = {flag: flag in one.flags for flag in FLAGS}
            document["added_tokens"].append({"id": one.token_id, "content": text, **flags, "special": one.is_special})
            changes.append(Change("tokenizer.json", f"added token {text}", None, one.token_id, "trained at this id"))
        (folder / "tokenizer.json").write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    return changes
