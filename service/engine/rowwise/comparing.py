"""Finds what an adapter changes on the decode path, by comparing its view with the base.

Everything must be recognised: a module of another class, a tensor of its own, a hook. Runs no model.
"""

from collections.abc import Container, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from service.engine.rowwise.parts import NotBatched, Part
from service.engine.rowwise.peft_layers import class_path, is_peft_layer, unwrap

LINEAR = (nn.Linear, Conv1D)
ROUTED = "experts"
"""Modules under this name see the tokens that a router chose, not the rows of the batch."""


def decode_path(base: Any) -> tuple[str, ...]:
    """Name the modules that a decode step runs: the decoder, the input embedding and the head.

    Raises:
        NotBatched: The model does not say which they are.
    """
    names = {id(module): name for name, module in base.named_modules()}
    try:
        modules = (base.get_decoder(), base.get_input_embeddings(), base.get_output_embeddings())
        return tuple(names[id(one)] for one in modules if one is not None)
    except (AttributeError, NotImplementedError, KeyError) as error:
        raise NotBatched(f"{class_path(base)} does not say which modules a step of text runs") from error


def compare(base: Any, view: Any, path: tuple[str, ...], called: Container[str]) -> dict[str, Part]:
    """Return what the adapter does to each module on the path that it changes, by name.

    Args:
        base: A transformers model.
        view: The base with one adapter.
        path: See `decode_path`.
        called: Modules that a step calls with the rows of the batch.

    Raises:
        NotBatched: It does something there that rows of a mixed batch cannot do.
    """
    parts = dict(_compare(base, view, path, ""))
    for name in parts:
        if name not in called or ROUTED in name.split("."):
            kind = class_path(view.get_submodule(name))
            raise NotBatched(f"{name}: {kind} is not called with the rows of the batch, so no row can have its own")
    return parts


def _compare(base: Any, view: Any, path: tuple[str, ...], name: str) -> Iterator[tuple[str, Part]]:
    if not _is_near(name, path):
        return
    inner, part = view, Part()
    try:
        if is_peft_layer(view):
            if view._forward_hooks or view._forward_pre_hooks:
                raise NotBatched(f"the adapter hooks into {class_path(view)}")
            inner, part = unwrap(view)
        _check_class(base, inner)
        whole = _with_tensors(base, inner, part)
        if whole is not None:
            _check_part(base, view, whole)
            yield name, whole
    except NotBatched as error:
        raise NotBatched(f"{name or 'the model'}: {error}") from error
    inside = any(name == root or name.startswith(f"{root}.") or not root for root in path)
    children, others = dict(base.named_children()), dict(inner.named_children())
    if inside and children.keys() != others.keys():
        raise NotBatched(f"{name}: its modules are {_listed(others)}, the base's {_listed(children)}")
    for key, child in children.items():
        if key in others:
            yield from _compare(child, others[key], path, f"{name}.{key}".removeprefix("."))


def _is_near(name: str, path: tuple[str, ...]) -> bool:
    """Say whether a module is on the path or around a module that is."""
    return not name or any(
        not root or name == root or name.startswith(f"{root}.") or root.startswith(f"{name}.") for root in path
    )


def _check_class(base: Any, view: Any) -> None:
    if type(view) is not type(base):
        raise NotBatched(f"it is a {class_path(view)}, the base's is a {class_path(base)}")
    for hooks in ("_forward_hooks", "_forward_pre_hooks"):
        if len(getattr(view, hooks)) != len(getattr(base, hooks)):
            raise NotBatched(f"the adapter hooks into {class_path(view)}")
    if ("forward" in vars(view)) != ("forward" in vars(base)):
        raise NotBatched(f"the adapter replaces the forward of {class_path(view)}")


def _with_tensors(base: Any, inner: Any, part: Part) -> Part | None:
    """Add what the adapter did to the tensors of the module itself; None if it did nothing at all."""
    if part.own is not None:
        return None if _is_untrained(base, part.own) else part
    changed = _changed(base, inner)
    if changed and not isinstance(base, (*LINEAR, nn.Embedding)):
        raise NotBatched(f"the adapter has its own {' and '.join(sorted(changed))} of {class_path(base)}")
    if changed == {"bias"} and isinstance(base, LINEAR):
        shift = (inner.bias.detach().float() - base.bias.detach().float()).to(base.bias.dtype)
        return replace(part, shift=shift if part.shift is None else part.shift + shift)
    is_empty = all(one is None for one in (part.down, part.gain, part.token_ids))
    if changed and not is_empty:
        raise NotBatched(f"the adapter has its own {' and '.join(sorted(changed))} below its factors or tokens")
    if changed:
        return Part(own=inner)
    return None if is_empty else part


def _changed(base: Any, view: Any) -> set[str]:
    """Name the module's own tensors that are not, and do not equal, the base's."""
    ours, theirs = _tensors(base), _tensors(view)
    return {name for name in ours.keys() | theirs.keys() if not _equal(ours.get(name), theirs.get(name))}


def _tensors(module: Any) -> dict[str, torch.Tensor]:
    return dict(module.named_parameters(recurse=False)) | dict(module.named_buffers(recurse=False))


def _equal(left: torch.Tensor | None, right: torch.Tensor | None) -> bool:
    if left is right:
        return True
    if left is None or right is None or left.shape != right.shape or left.dtype != right.dtype:
        return False
    return torch.equal(left, right)


def _is_untrained(base: Any, own: Any) -> bool:
    """Say whether a saved copy is what the base has: it was never trained."""
    return type(own) is type(base) and not list(own.children()) and not _changed(base, own)


def _check_part(base: Any, view: Any, part: Part) -> None:
    around = f"{class_path(view)} is around {class_path(base)}, which" if is_peft_layer(view) else class_path(base)
    if not isinstance(base, (*LINEAR, nn.Embedding)):
        raise NotBatched(f"{around} is neither a linear layer nor an embedding")
    if getattr(base, "max_norm", None) is not None:
        raise NotBatched(f"{around} renormalises its rows")
    has_own_shape = part.own is not None and getattr(part.own, "weight", base.weight).shape != base.weight.shape
    if has_own_shape or not isinstance(part.own, (type(None), *LINEAR, nn.Embedding)):
        raise NotBatched(f"{class_path(view)} holds a {class_path(part.own)} of another kind or shape than the base's")
    if not part.is_finite:
        raise NotBatched(f"{class_path(view)} holds numbers that are not finite")


def _listed(modules: dict[str, Any]) -> str:
    return f"{', '.join(list(modules)[:4])}{', ...' if len(modules) > 4 else ''} ({len(modules)})"
