"""Reads one PEFT adapter folder: config, tensors, and what it does to rows of the vocabulary matrices.

Builds no model and runs no code that the folder names.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

from service.checkpoint.documents import Documents
from service.checkpoint.fingerprint import fingerprint
from service.checkpoint.locating import Location
from service.checkpoint.tokenizer import read_tokenizer
from service.checkpoint.vocabulary import EMBEDDING_SUFFIXES, HEAD_SUFFIXES, row_digest
from service.checkpoint.weights import WeightFiles, pickle_files
from service.domain.facts import (
    AdapterFacts,
    FileProblem,
    RowUpdate,
    TokenizerFacts,
)

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
LORA_PART = re.compile(r"\.(lora_|token_adapter\.|trainable_tokens_)|\.base_layer\.")
TOKEN_DELTA = re.compile(r"\.(token_adapter\.)?trainable_tokens_delta$")
EMBEDDING_MODULES = tuple(one.removesuffix(".weight") for one in EMBEDDING_SUFFIXES)
HEAD_MODULES = tuple(one.removesuffix(".weight") for one in HEAD_SUFFIXES)


def read_adapter(
    adapter_id: str, location: Location, base_tokenizer: TokenizerFacts | None, ids: Collection[int]
) -> AdapterFacts:
    """Describe an adapter folder.

    Args:
        adapter_id: The configured name.
        location: Where it is.
        base_tokenizer: The tokenizer of the base, to tell new tokens from old.
        ids: Ids whose replaced rows are hashed; the adapter's new tokens are added to them.
    """
    documents = Documents(location.folder)
    config = documents.json(CONFIG)
    problems = _missing_files(documents)
    weights = WeightFiles([location.folder / WEIGHTS] if documents.has(WEIGHTS) else [])
    reading = read_tokenizer(location.folder)
    added = reading.tokenizer.added if reading.tokenizer else {}
    new_tokens = {
        text: one.token_id for text, one in added.items() if base_tokenizer and text not in base_tokenizer.added
    }
    keys = {key: key.removeprefix(PREFIX) for key in weights.tensors}
    update_ids = sorted({*ids, *new_tokens.values()})
    return AdapterFacts(
        adapter_id=adapter_id,
        name=location.name,
        fingerprint=fingerprint(location.folder),
        peft_type=str(config.get("peft_type") or ""),
        rank=config["r"] if isinstance(config.get("r"), int) else None,
        modules_to_save=tuple(sorted(map(str, config.get("modules_to_save") or ()))),
        trainable_token_ids=tuple(sorted({one for ids in _token_indices(config).values() for one in ids})),
        is_bias_trained=config.get("bias", "none") != "none",
        lora={short: weights.tensors[key] for key, short in keys.items() if LORA_PART.search(short)},
        full={short: weights.tensors[key] for key, short in keys.items() if not LORA_PART.search(short)},
        values={short: weights.value_facts(key) for key, short in keys.items() if weights.is_float(key)},
        tokenizer=reading.tokenizer,
        template=reading.template,
        new_tokens=new_tokens,
        embedding_update=_row_update(weights, config, EMBEDDING_MODULES, update_ids),
        head_update=_row_update(weights, config, HEAD_MODULES, update_ids),
        problems=(*documents.problems, *problems, *weights.problems, *reading.problems),
    )


def missing_adapter(adapter_id: str, reason: str) -> AdapterFacts:
    """Describe an adapter whose folder could not be found."""
    return AdapterFacts(
        adapter_id=adapter_id,
        name=adapter_id,
        fingerprint="",
        peft_type="",
        rank=None,
        modules_to_save=(),
        trainable_token_ids=(),
        is_bias_trained=False,
        lora={},
        full={},
        values={},
        tokenizer=None,
        template=None,
        new_tokens={},
        embedding_update=None,
        head_update=None,
        problems=(FileProblem("the adapter", f"cannot be found: {reason}"),),
    )


def vocabulary_ids(location: Location) -> set[int]:
    """Return the ids that an adapter may bring: those of its added tokens and of the rows that it trained."""
    documents = Documents(location.folder)
    added = documents.json("tokenizer.json").get("added_tokens") or []
    trained = {one for ids in _token_indices(documents.json(CONFIG)).values() for one in ids}
    return {int(one["id"]) for one in added} | trained


def _missing_files(documents: Documents) -> list[FileProblem]:
    problems = []
    if not documents.has(CONFIG):
        problems.append(FileProblem(CONFIG, "is missing, so this is not a PEFT adapter folder"))
    if not documents.has(WEIGHTS):
        pickled = [name for name in pickle_files(documents.folder) if name.startswith("adapter_model")]
        why = f"is missing; {pickled[0]} is a pickle file and is never opened" if pickled else "is missing"
        problems.append(FileProblem(WEIGHTS, why))
    return problems


def _token_indices(config: Mapping[str, Any]) -> dict[str, list[int]]:
    """Read `trainable_token_indices`, which is a list (for the embeddings) or a mapping of module name to list."""
    indices = config.get("trainable_token_indices") or {}
    if isinstance(indices, list):
        indices = {"embed_tokens": indices}
    return {str(module): [int(one) for one in ids] for module, ids in indices.items()}


def _row_update(
    weights: WeightFiles, config: Mapping[str, Any], modules: tuple[str, ...], ids: list[int]
) -> RowUpdate | None:
    for key in weights.tensors:
        module = TOKEN_DELTA.sub("", key).removesuffix(".weight")
        if not module.endswith(modules) or not weights.is_float(key) or len(weights.tensors[key].shape) != 2:
            continue
        if TOKEN_DELTA.search(key):
            return _token_update(weights, key, _indices_of(config, module))
        if key.endswith(".weight") and not LORA_PART.search(key):
            return _full_update(weights, key, ids)
    if any(_lora_module(key).endswith(modules) for key in weights.tensors if ".lora_" in key):
        return RowUpdate("lora", None, {}, covers_all=True)
    return None


def _indices_of(config: Mapping[str, Any], module: str) -> list[int]:
    return next((ids for name, ids in _token_indices(config).items() if module.endswith(name)), [])


def _token_update(weights: WeightFiles, key: str, ids: list[int]) -> RowUpdate:
    """Match the saved rows with their ids; PEFT keeps them in the order of the config."""
    rows = weights.values(key)
    digests = {one: row_digest(row) for one, row in zip(ids, rows, strict=False)}
    return RowUpdate("trainable_tokens", None, digests, covers_all=False)


def _full_update(weights: WeightFiles, key: str, ids: list[int]) -> RowUpdate:
    num_rows = weights.tensors[key].shape[0]
    within = [one for one in ids if 0 <= one < num_rows]
    digests = {one: row_digest(row) for one, row in zip(within, weights.rows(key, within), strict=True)}
    return RowUpdate("modules_to_save", num_rows, digests, covers_all=True)


def _lora_module(key: str) -> str:
    return re.split(r"\.lora_", key, maxsplit=1)[0]
