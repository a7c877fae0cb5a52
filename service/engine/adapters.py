"""Mounts PEFT adapters, each on its own view of the base.

A view is a copy of the module tree that shares every tensor with the base: an adapter costs its own weights only,
wraps no module that another adapter wraps, and cannot touch the base. The engine's only importer of peft beside
`service.engine.rowwise.peft_layers`, which reads what it mounted.
"""

import copy
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from service.domain.factors import LINEAR, original_of, parts_in, short_names
from service.wording import without_folders

SAFE_INITS = frozenset({"gaussian", "orthogonal", "eva"})
"""Ways of starting LoRA factors, besides true and false, that leave the base's weights as they are.

PiSSA, OLoRA, CorDA, LoftQ and others take a part out of each weight at every load and put it into the factors.
"""
PROMPT_LEARNING = frozenset(
    {"PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "MULTITASK_PROMPT_TUNING", "CPT", "CARTRIDGE"}
)
ROUTED = frozenset({"XLORA", "POLY"})
"""Types whose factors PEFT's outermost module weighs, which a view leaves out."""


class MountFailed(Exception):
    """PEFT could not load the adapter; the message is its reason in one line."""


@dataclass(frozen=True, slots=True)
class Mounted:
    """A view of the base with one adapter applied.

    Attributes:
        model: A transformers model; call it like the base.
        missing_keys: Adapter parameters that the file did not fill.
        unexpected_keys: Tensors of the file that no module took.
    """

    model: Any
    missing_keys: tuple[str, ...]
    unexpected_keys: tuple[str, ...]


def share(model: Any, private: Collection[str] = ()) -> Any:
    """Copy a model's modules but none of its tensors.

    Args:
        model: A transformers model.
        private: Names of parameters that the copy gets as tensors of its own.
    """
    named = dict(model.named_parameters(remove_duplicate=False))
    own = {id(named[name]) for name in private}
    tensors = {id(one): one for one in (*named.values(), *model.buffers()) if id(one) not in own}
    return copy.deepcopy(model, memo=tensors)


def mount(base: Any, folder: Path) -> Mounted:
    """Apply an adapter to a view of the base.

    Raises:
        MountFailed: The config or the tensors do not fit the base.
    """
    peft_model, result = _load(share(base, _overwritten(base, folder)), folder)
    model = peft_model.get_base_model().eval()
    return Mounted(model, tuple(sorted(result.missing_keys)), tuple(sorted(result.unexpected_keys)))


def _overwritten(base: Any, folder: Path) -> set[str]:
    """Name the base's parameters that PEFT would write over.

    Those are trained biases, tensors outside `modules_to_save`, and weights that an initialisation changes. A folder
    whose config or tensors cannot be read overwrites nothing; loading it says what is wrong.
    """
    try:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
            keys = {original_of(name) for name in short_names(file.keys()).values()}
        init = str(config.get("init_lora_weights", True)).lower()
        saved = tuple(f"{module}." for module in config.get("modules_to_save") or ())
    except (OSError, ValueError, TypeError, AttributeError, SafetensorError):
        return set()
    names = {name for name, _ in base.named_parameters(remove_duplicate=False)}
    loose = {key for key in keys & names if not any(module in key for module in saved)}
    biases = {name for name in names if name.endswith(".bias")} if config.get("bias", "none") != "none" else set()
    is_safe = init in SAFE_INITS or init in ("true", "false", "none")
    parts = () if is_safe else parts_in(keys).values()
    split = {f"{one.module}.weight" for one in parts if one.kind == LINEAR[0]}
    return loose | biases | (split & names)


def merge(base: Any, folder: Path) -> Mounted:
    """Write an adapter into the base's own weights, in the type that they have.

    Args:
        base: Should be in float32: small updates are lost in 16 bits.
        folder: The adapter.

    Raises:
        MountFailed: The adapter does not fit the base, or merging makes NaN.
    """
    peft_model, result = _load(base, folder)
    try:
        merged = peft_model.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise MountFailed(_reason(error)) from error
    return Mounted(merged.eval(), tuple(sorted(result.missing_keys)), tuple(sorted(result.unexpected_keys)))


def _load(model: Any, folder: Path) -> tuple[Any, Any]:
    from peft import PeftConfig, PeftModel

    name = "default"
    try:
        config = PeftConfig.from_pretrained(folder)
        kind = str(config.peft_type).rsplit(".", 1)[-1]
        if kind in PROMPT_LEARNING:
            raise MountFailed(f"{kind} adds virtual tokens to the prompt, which this service does not do")
        if kind in ROUTED:
            raise MountFailed(f"{kind} weighs its factors anew for every request, which this service does not do")
        config.inference_mode = True
        peft_model = PeftModel(model, config, name, autocast_adapter_dtype=False)
        device = str(next(model.parameters()).device)  # left to itself, PEFT stages on the first GPU that it finds
        result = peft_model.load_adapter(
            folder, name, torch_device=device, autocast_adapter_dtype=False, use_safetensors=True
        )
    except MountFailed:
        raise
    except Exception as error:  # PEFT raises ValueError, KeyError, RuntimeError, TypeError and more for bad folders
        raise MountFailed(_reason(error)) from error
    return peft_model, result


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {without_folders(' '.join(lines[:2]))[:400]}"
