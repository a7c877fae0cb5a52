"""Lays an adapter's own tokenizer files over its base's, as it is judged and as it is served.

Knows file names only, and no tokenizer.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json")
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    *TEMPLATE_FILES,
)
"""Files of an adapter folder that replace the base's."""
BASE_SUFFIXES = (".json", ".jinja", ".txt", ".model")
"""What the base contributes: everything but weights and code."""


@contextmanager
def overlay(base: Path, adapter: Path) -> Iterator[Path | None]:
    """Make a temporary folder of the base's files with the adapter's own laid over them.

    Yields:
        The folder, or None if the adapter has no tokenizer file of its own.

    Raises:
        OSError: A file cannot be read.
    """
    own = [name for name in TOKENIZER_FILES if (adapter / name).is_file()]
    if not own:
        yield None
        return
    hidden = TEMPLATE_FILES if _has_template(adapter) else ()
    with tempfile.TemporaryDirectory(prefix="minicpm-") as temporary:
        folder = Path(temporary)
        for path in base.iterdir():
            if path.is_file() and path.suffix in BASE_SUFFIXES and path.name not in hidden:
                shutil.copyfile(path, folder / path.name)
        for name in own:
            shutil.copyfile(adapter / name, folder / name)
        yield folder


def _has_template(adapter: Path) -> bool:
    """Say whether the adapter brings a template, in a file or, as before transformers 4.50, in its config.

    A template file of the base would win over one in the adapter's config.
    """
    if any((adapter / name).is_file() for name in TEMPLATE_FILES):
        return True
    try:
        config = json.loads((adapter / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(config, dict) and bool(config.get("chat_template"))
