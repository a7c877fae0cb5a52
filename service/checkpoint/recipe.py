"""Reads what trainers write beside an adapter about its training: the arguments that decide what the factors mean.

Knows the names that ms-swift, LLaMA-Factory and axolotl give to PEFT's settings. Believes nothing, judges nothing. What
cannot be read is no recipe.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from service.domain.facts import Recipe

README = "README.md"
JSON_FILES = ("args.json", "sft_args.json", "finetuning_args.json", "training_args.json")
"""ms-swift's of today and of version 2, LLaMA-Factory's of old, and scripts'."""
MAX_BYTES, MAX_FILES = 200_000, 16
NUMBERS = {"r": ("lora_rank", "lora_r"), "lora_alpha": ("lora_alpha",)}
FLAGS = {"use_rslora": ("use_rslora", "peft_use_rslora"), "use_dora": ("use_dora", "peft_use_dora")}
LISTS = {
    "target_modules": ("target_modules", "lora_target_modules", "lora_target"),
    "modules_to_save": ("modules_to_save", "lora_modules_to_save", "additional_target"),
}
TEXTS = {"base_model_name_or_path": ("model", "model_id_or_path", "model_name_or_path", "base_model")}
KINDS = ("train_type", "tuner_type", "sft_type", "finetuning_type", "adapter")
LORA = frozenset({"lora", "qlora", "lora_llm"})
CONTINUED = ("adapters", "adapter_name_or_path", "lora_model_dir", "adapter_path", "resume_from_checkpoint", "ckpt_dir")
FROZEN = ("freeze_llm", "freeze_language_model")
SPECIAL = re.compile(r"^(all([-_]\w+)?|auto|default|embedding|none|null)$", re.IGNORECASE)
"""Names that a trainer puts modules in place of."""
PLAIN = re.compile(r"^[A-Za-z_][\w.]*$")
CARD, FENCE = "See axolotl config</summary>", re.compile(r"^```ya?ml\n(.*?)^```", re.MULTILINE | re.DOTALL)
"""axolotl writes its whole configuration into the model card."""
MAX_LINE = 1_000
LINE = re.compile(r"^(?P<key>[A-Za-z_]\w*):[ \t]*(?P<value>.*?)[ \t]*$")
ITEM = re.compile(r"^[ \t]*-[ \t]+(?P<value>\S.*?)[ \t]*$")
COMMENT = re.compile(r"(^|[ \t]+)#.*$")


def recipes(folder: Path) -> tuple[Recipe, ...]:
    """Return the recipes of LoRA training that lie in an adapter's folder."""
    found = (_recipe(name, document) for name, document in _documents(folder))
    return tuple(one for one in found if one is not None)


def _documents(folder: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name in JSON_FILES:
        if document := _json(folder / name):
            yield name, document
    for path in sorted(one for one in folder.iterdir() if one.suffix in (".yaml", ".yml"))[:MAX_FILES]:
        yield path.name, _flat(_text(path))
    if match := FENCE.search(_text(folder / README).partition(CARD)[2]):
        yield README, _flat(match[1])


def _recipe(file: str, document: Mapping[str, Any]) -> Recipe | None:
    kinds = [document[one] for one in KINDS if isinstance(document.get(one), str)]
    if any(one.lower() not in LORA for one in kinds):
        return None
    values: dict[str, Any] = {}
    names: dict[str, str] = {}
    for table, read in ((NUMBERS, _number), (FLAGS, _flag), (LISTS, _names), (TEXTS, _line)):
        for setting, aliases in table.items():
            name = next((one for one in aliases if one in document), None)
            value = read(document[name]) if name else None
            if name and value is not None:
                values[setting], names[setting] = value, name
    if any(_flag(document.get(one)) for one in FROZEN):
        values.pop("target_modules", None)
    is_continued = any(document.get(one) and _flag(document[one]) is not False for one in CONTINUED)
    return Recipe(file, values, names, is_continued) if values else None


def _number(value: Any) -> float | None:
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else 0.0
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def _flag(value: Any) -> bool | None:
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    return value if isinstance(value, bool) else None


def _line(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _names(value: Any) -> tuple[str, ...] | None:
    """Return plain names of modules; None for a pattern, for a name that stands for others, and for nothing."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list) or not all(isinstance(one, str) for one in parts):
        return None
    found = tuple(dict.fromkeys(one.strip() for one in parts if one.strip()))
    is_plain = all(PLAIN.match(one) and not SPECIAL.match(one) for one in found)
    return found if found and is_plain else None


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(_text(path) or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _text(path: Path) -> str:
    try:
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            return ""
        with path.open("rb") as file:  # some special files have no size and no end
            return file.read(MAX_BYTES).decode("utf-8", errors="replace").replace("\r\n", "\n")
    except OSError:
        return ""


def _flat(text: str) -> dict[str, Any]:
    """Read the outermost keys of a YAML file: those with a value on their line, or with a list of plain values."""
    found: dict[str, Any] = {}
    last = ""
    for line in text.splitlines():
        bare = COMMENT.sub("", line[:MAX_LINE])
        if match := LINE.match(bare):
            last = match["key"]
            found[last] = _value(match["value"])
        elif last and (item := ITEM.match(bare)):
            if not isinstance(found[last], list):
                found[last] = []
            found[last].append(_scalar(item["value"]))
        elif bare.strip():
            last = "" if not bare.startswith((" ", "\t")) else last
    return found


def _value(text: str) -> Any:
    """Read what stands behind a key: a list on one line, or a single value."""
    if text.startswith("[") and text.endswith("]"):
        return [_scalar(one.strip()) for one in text[1:-1].split(",") if one.strip()]
    return _scalar(text)


def _scalar(text: str) -> str | None:
    """Read a text in quotes, nothing, or a word as it stands."""
    text = text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text
    return None if text in ("", "null", "~", "None") else text
