"""Reads `adapter_config.json`: the few fields that decide what the tensors mean.

A value of the wrong type becomes a problem of the file; nothing is judged.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from service.checkpoint.documents import Documents

CONFIG = "adapter_config.json"
EMBEDDINGS = "*"
"""Module name of `trainable_token_indices` that is a plain list: the input embeddings, whatever they are called."""


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """The fields, with safe types; see `AdapterFacts` for their meaning.

    Attributes:
        document: All fields, of whichever types.
    """

    peft_type: str
    ranks: frozenset[int]
    modules_to_save: tuple[str, ...]
    is_tying_ensured: bool
    trainable_tokens: Mapping[str, tuple[int, ...]]
    is_bias_trained: bool
    document: Mapping[str, Any]


def read_config(documents: Documents) -> AdapterConfig:
    """Read the config; what is missing or of a wrong type is empty."""
    config = documents.json(CONFIG)
    peft_type = config.get("peft_type")
    if config and not isinstance(peft_type, str):
        documents.note(CONFIG, "names no peft_type, so PEFT cannot tell what the tensors are")
    saved = config.get("modules_to_save")
    if saved is not None and not _is_names(saved):
        documents.note(CONFIG, f"has modules_to_save {_shown(saved)} where a list of names is expected")
        saved = None
    return AdapterConfig(
        peft_type=peft_type if isinstance(peft_type, str) else "",
        ranks=_ranks(documents, config),
        modules_to_save=tuple(sorted(saved or ())),
        is_tying_ensured=config.get("ensure_weight_tying") is True,
        trainable_tokens=_trainable_tokens(documents, _token_indices(config)),
        is_bias_trained=config.get("bias") not in (None, "none"),
        document=config,
    )


def trained_ids(tokens: Mapping[str, tuple[int, ...]], module: str) -> tuple[int, ...]:
    """Find the ids of a module's rows; on a tied base PEFT also saves rows of the module that the config leaves out.

    Args:
        tokens: See `AdapterConfig.trainable_tokens`.
        module: Its name.
    """
    named = next((ids for name, ids in tokens.items() if module.endswith(name)), None)
    others = set(tokens.values())
    return named if named is not None else others.pop() if len(others) == 1 else ()


def _ranks(documents: Documents, config: Mapping[str, Any]) -> frozenset[int]:
    pattern = config.get("rank_pattern") or {}
    ranks = [config.get("r"), *(pattern.values() if isinstance(pattern, dict) else [pattern])]
    if ranks == [None]:
        return frozenset()
    if not all(_is_id(one) for one in ranks):
        documents.note(CONFIG, f"has r {_shown(config.get('r'))} or rank_pattern that are not integers")
        return frozenset()
    return frozenset(ranks)


def _token_indices(config: Mapping[str, Any]) -> Any:
    """Return the ids of a LoRA config, or those of the type that trains tokens and nothing else."""
    if config.get("peft_type") != "TRAINABLE_TOKENS":
        return config.get("trainable_token_indices")
    targets = config.get("target_modules") or [EMBEDDINGS]
    return {str(one): config.get("token_indices") for one in ([targets] if isinstance(targets, str) else targets)}


def _trainable_tokens(documents: Documents, indices: Any) -> dict[str, tuple[int, ...]]:
    """Read `trainable_token_indices`, a list for the embeddings or a mapping of module name to list."""
    if indices is None:
        return {}
    by_module = indices if isinstance(indices, dict) else {EMBEDDINGS: indices}
    if not all(isinstance(ids, list) and all(_is_id(one) for one in ids) for ids in by_module.values()):
        documents.note(CONFIG, f"has trainable_token_indices {_shown(indices)} where lists of ids are expected")
        return {}
    return {str(module): tuple(ids) for module, ids in by_module.items()}


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) and one for one in value)


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    return repr(value)[:80]
