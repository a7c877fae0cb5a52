"""Finds the base's modules that an adapter's tensors name, and the ones that they must mean where they name none.

Knows PEFT's key names; does not know which modules were to be trained.
"""

from collections.abc import Collection, Mapping

from service.checkpoint.renaming import renaming
from service.domain.factors import PREFIX, by_module, host_of, pair_of, short_names
from service.domain.facts import Attachment, BaseFacts, TensorFacts

WRAPPERS = (PREFIX, "module.", "_orig_mod.", "_fsdp_wrapped_module.", "base_model.", "model.model.")


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
    named = {host_of(one) for one in short_names(tensors).values()}
    unknown = sorted(one for one in named if shapes and not _is_known(one, modules, shapes))
    return Attachment(bare, tuple(unknown), _meant(unknown, tensors, shapes) if unknown else {}, len(named))


def _is_known(module: str, modules: Collection[str], parameters: Collection[str]) -> bool:
    return module in modules or module in parameters


def _meant(
    unknown: list[str], tensors: Mapping[str, TensorFacts], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, str]:
    """Rename modules so that every one is in the base and its factors fit the weight there."""
    parts = by_module(short_names(tensors))
    wanted = {f"{_unwrapped(one)}.weight": _weight_shape(parts.get(one, {}), tensors) for one in unknown}
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


def _weight_shape(parts: Mapping[str, str], tensors: Mapping[str, TensorFacts]) -> tuple[int, ...] | None:
    """Return the shape of the weight that both factors of a module belong to; None if they do not say."""
    shapes = [tensors[key].shape for key in pair_of(parts) or () if len(tensors[key].shape) == 2]
    return (shapes[1][0], shapes[0][1]) if len(shapes) == 2 else None
