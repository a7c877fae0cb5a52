"""Reads what trainers write about a run beside the weights: who made the folder, from what, with which arguments.

Believes nothing: the values are the folder's own words. Never a path.
"""

import re
from pathlib import Path
from typing import Any

from service.checkpoint.documents import Documents

FRONT_MATTER = re.compile(r"\A---\n(.*?)\n---", re.DOTALL)
FIELD = re.compile(r"^(base_model|library_name|license|tags):\s*(\S.*)$", re.MULTILINE)
MAX_README_BYTES = 100_000
ARGUMENTS = (
    *("learning_rate", "num_train_epochs", "lora_rank", "lora_alpha", "target_modules", "modules_to_save", "template"),
    *("model_type", "tuner_type", "train_type", "freeze_vit", "torch_dtype", "max_length", "seed"),
)
"""Of ms-swift's args.json: what decides how an adapter is to be read."""


def provenance(folder: Path) -> dict[str, Any]:
    """Return what the folder says about its making; empty values are left out."""
    documents = Documents(folder)
    adapter, arguments = documents.json("adapter_config.json"), documents.json("args.json")
    readme = _front_matter(folder / "README.md")
    merged = _merged(documents.json("merge.json"))
    base = merged.get("base") or adapter.get("base_model_name_or_path") or readme.get("base_model")
    found = {
        "producer": merged.get("producer") or _producer(folder, adapter, bool(arguments), readme),
        "base": _last(base) if isinstance(base, str) else None,
        "merged": merged.get("merged"),
        "revision": adapter.get("revision"),
        "peft_version": adapter.get("peft_version"),
        "transformers_version": documents.json("config.json").get("transformers_version"),
        "arguments": {name: arguments[name] for name in ARGUMENTS if arguments.get(name) is not None},
    }
    return {name: value for name, value in found.items() if value}


def _merged(record: dict[str, Any]) -> dict[str, Any]:
    """Read what `minicpm-service merge` writes beside the weights: from what it merged, and with which arguments."""
    sources, versions = record.get("from"), record.get("versions")
    if not isinstance(sources, dict) or not isinstance(versions, dict):
        return {}
    base = sources.get("base")
    return {
        "producer": f"minicpm-service merge {versions.get('minicpm-service', '')}".strip(),
        "base": base.get("name") if isinstance(base, dict) else None,
        "merged": {**sources, "dtype": record.get("dtype")},
    }


def _producer(folder: Path, adapter: dict[str, Any], has_arguments: bool, readme: dict[str, str]) -> str:
    mapping = adapter.get("auto_mapping")
    library = str(mapping.get("parent_library") or "") if isinstance(mapping, dict) else ""
    if has_arguments:
        return "ms-swift"
    if library.startswith("transformers_modules"):
        return "OpenBMB's fine-tuning script"
    if "llama-factory" in readme.get("tags", "") or (folder / "trainer_log.jsonl").is_file():
        return "LLaMA-Factory"
    if "unsloth" in readme.get("tags", "") or "unsloth" in str(adapter.get("base_model_name_or_path") or ""):
        return "Unsloth"
    return "PEFT" if adapter else ""


def _front_matter(path: Path) -> dict[str, str]:
    try:
        if not path.is_file() or path.stat().st_size > MAX_README_BYTES:
            return {}
        match = FRONT_MATTER.match(path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return {}
    return {name: value.strip() for name, value in FIELD.findall(match[1])} if match else {}


def _last(reference: str) -> str:
    """Keep a hub id whole and a path's last name only."""
    parts = reference.rstrip("/").split("/")
    return reference if len(parts) == 2 and not reference.startswith((".", "/", "~")) else parts[-1]
