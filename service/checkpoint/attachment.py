"""Finds the base's modules that an adapter's tensors name, and the ones that they must mean where they name none.

Knows PEFT's key names; does not know which modules were to be trained.
"""

import re
from collections.abc import Collection, Mapping

from service.checkpoint.renaming import renaming
from service.domain.facts import Attachment, BaseFacts, TensorFacts

PREFIX = "base_model.model."
OWN_PART = re.compile(r"\.(lora_|token_adapter\.|trainable_tokens_delta|base_layer\.).*$")
WRAPPERS = ("base_model.model.", "module.", "_orig_mod.", "_fsdp_wrapped_module.", "base_model.", "model.model.")
FACTOR_A, FACTOR_B = re.compile(r"\.lora_A(\.[^.]+)?\.weight$"), re.compile(r"\.lora_B(\.[^.]+)?\.weight$")


def attach(tensors: Mapping[str, TensorFacts], base: BaseFacts) -> Attachment:
    """Describe where an adapter's tensors belong.

    Args:
        tensors: Of the adapter's file, by the file's own keys.
        base: What it is served on. Its parameters are known from its class, or else from its files.
    """
    shapes = dict(base.blueprint.parameters) if base.blueprint and base.blueprint.parameters else {}
    shapes = shapes or {name: one.shape for name, one in base.tensors.items()}
    modules = {name.rpartition(".")[0] for name in shapes}
    modules |= {"lm_head"} if base.head is None and base.embedding else set()  # tied: in no file, but in the model
    bare = tuple(sorted(key for key in tensors if not key.startswith(PREFIX)))
    named = {_module(key.removeprefix(PREFIX)) for key in tensors}
    unknown = sorted(one for one in named if shapes and not _is_known(one, modules, shapes))
    return Attachment(bare, tuple(unknown), _meant(unknown, tensors, shapes) if unknown else {}, len(named))


def _module(key: str) -> str:
    """Return the module that a key belongs to: in front of PEFT's own part, or of the parameter's name."""
    stripped = OWN_PART.sub("", key)
    return stripped if stripped != key else key.rpartition(".")[0]


def _is_known(module: str, modules: Collection[str], parameters: Collection[str]) -> bool:
    return module in modules or module in parameters


def _meant(
    unknown: list[str], tensors: Mapping[str, TensorFacts], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, str]:
    """Rename modules so that every one is in the base and its factors fit the weight there."""
    wanted = {f"{_unwrapped(one)}.weight": _weight_shape(one, tensors) for one in unknown}
    found = renaming(wanted, dict(shapes))
    return {
        one: found[f"{_unwrapped(one)}.weight"].removesuffix(".weight")
        for one in unknown
        if f"{_unwrapped(one)}.weight" in found
    }


def _unwrapped(module: str) -> str:
    for wrapper in WRAPPERS:
        if module.startswith(wrapper) and wrapper != "model.model.":
            module = module.removeprefix(wrapper)
    return module


def _weight_shape(module: str, tensors: Mapping[str, TensorFacts]) -> tuple[int, ...] | None:
    """Return the shape of the weight that both factors of a module belong to; None if they do not say."""
    mine = {key: one.shape for key, one in tensors.items() if f"{module}." in key}
    down = next((shape for key, shape in mine.items() if FACTOR_A.search(key) and len(shape) == 2), None)
    up = next((shape for key, shape in mine.items() if FACTOR_B.search(key) and len(shape) == 2), None)
    return (up[0], down[1]) if down and up else None
