"""Lays an adapter's own tokenizer files over its base's, as it is judged and as it is served.

Knows file names only, and no tokenizer.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CONFIG = "tokenizer_config.json"
NAME_TABLES = ("extra_special_tokens", "model_specific_special_tokens")
"""Keys of the config that name tokens by role."""
TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json")
TOKENIZER_FILES = (
    "tokenizer.json",
    CONFIG,
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
        if CONFIG in own:
            _restore_names(_json(base / CONFIG), folder / CONFIG)
        yield folder


def _restore_names(base: dict[str, Any], path: Path) -> None:
    """Give an adapter's tokenizer config the names of the base that it lacks.

    Trainers that save a tokenizer again lose them (LLaMA-Factory with transformers 5 does); the ids are in
    tokenizer.json and unharmed, but the base's processor finds its placeholders by these names.
    """
    own = _json(path)
    if not own:
        return
    for key in NAME_TABLES:
        if isinstance(names := base.get(key), dict):
            mine = own.get(key)
            own[key] = {**names, **(mine if isinstance(mine, dict) else {})}
    own |= {key: value for key, value in base.items() if key.endswith("_token") and key not in own}
    path.write_text(json.dumps(own), encoding="utf-8")


def _has_template(adapter: Path) -> bool:
    """Say whether the adapter brings a template, in a file or, as before transformers 4.50, in its config.

    A template file of the base would win over one in the adapter's config.
    """
    return any((adapter / name).is_file() for name in TEMPLATE_FILES) or bool(
        _json(adapter / CONFIG).get("chat_template")
    )


def _json(path: Path) -> dict[str, Any]:
    """Read an object; what cannot be read is judged where the folder is read."""
    try:
        parsed = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}
