"""Reads what a layer of PEFT does to the module that it wraps.

Judges by exact class: what PEFT adds later is not recognised, and rows with it run on their own view. Beside
`service.engine.adapters` the engine's only importer of peft.
"""

from typing import Any

import torch

from service.engine.rowwise.parts import NotBatched, Part

LINEAR = (
    "peft.tuners.lora.layer.Linear",
    "peft.tuners.lora.bnb.Linear8bitLt",
    "peft.tuners.lora.bnb.Linear4bit",
    "peft.tuners.lora.torchao.TorchaoLoraLinear",
)
EMBEDDING = "peft.tuners.lora.layer.Embedding"
SAVED = "peft.utils.other.ModulesToSaveWrapper"
TOKENS_WRAPPER = "peft.utils.other.TrainableTokensWrapper"
TOKENS = "peft.tuners.trainable_tokens.layer.TrainableTokensLayer"
DORA = {
    LINEAR: ("peft.tuners.lora.variants.DoraLinearVariant", "peft.tuners.lora.dora.DoraLinearLayer"),
    EMBEDDING: ("peft.tuners.lora.variants.DoraEmbeddingVariant", "peft.tuners.lora.dora.DoraEmbeddingLayer"),
}


def class_path(value: Any) -> str:
    """Name a value's class in full."""
    return f"{type(value).__module__}.{type(value).__qualname__}"


def is_peft_layer(module: Any) -> bool:
    """Say whether PEFT put this module there."""
    return class_path(module).startswith("peft.")


def unwrap(module: Any) -> tuple[Any, Part]:
    """Split a layer of PEFT into the module inside and what is done to it.

    Returns:
        The base's module as the view has it (compare it with the base's: its tensors may be the adapter's), and the
        part. An adapter that does not touch this module gives an empty part.

    Raises:
        NotBatched: The layer does anything else than LoRA, DoRA, saved modules or trained tokens.
    """
    kind = class_path(module)
    if kind == TOKENS_WRAPPER:
        if module.disable_adapters or not module.active_adapters:
            raise NotBatched("its trained tokens are switched off")
        return unwrap(module.token_adapter)
    name = _adapter(module)
    if kind in LINEAR:
        return module.base_layer, _linear(module, name) if name in module.lora_A else Part()
    if kind == EMBEDDING:
        return module.base_layer, _embedding(module, name) if name in module.lora_embedding_A else Part()
    if kind == SAVED:
        own = dict(module.modules_to_save.items()).get(name)
        return module.original_module, Part(own=own)
    if kind == TOKENS:
        return module.base_layer, _tokens(module, name) if name in module.token_indices else Part()
    raise NotBatched(f"{kind} is not LoRA, DoRA, a saved module or trained tokens")


def _adapter(module: Any) -> str:
    """Return the one active adapter of a layer."""
    active = getattr(module, "active_adapters", [])
    if getattr(module, "merged_adapters", None) or getattr(module, "disable_adapters", True) or len(active) != 1:
        raise NotBatched(f"{class_path(module)} does not have exactly one active adapter that is not merged")
    return str(active[0])


def _linear(layer: Any, name: str) -> Part:
    down, up = layer.lora_A[name], layer.lora_B[name]
    if type(down) is not torch.nn.Linear or type(up) is not torch.nn.Linear:
        raise NotBatched(f"{class_path(layer)} has factors of class {class_path(down)}")
    norm = _dora_norm(layer, name, LINEAR)
    scale = _magnitude(layer, name, norm, down, up) if norm else None
    factor = layer.scaling[name] if scale is None else layer.scaling[name] * scale.float()
    return Part(
        down=down.weight.detach(),
        up=_scaled(up.weight.detach().T, factor),
        shift=None if up.bias is None else _scaled(up.bias.detach(), factor),
        gain=None if scale is None else scale - 1,
    )


def _embedding(layer: Any, name: str) -> Part:
    if layer.input_fns or layer.output_fns:
        raise NotBatched(f"{class_path(layer)} is split over several devices")
    down, up = layer.lora_embedding_A[name].detach(), layer.lora_embedding_B[name].detach()
    norm = _dora_norm(layer, name, EMBEDDING)
    scale = _magnitude(layer, name, norm, down.T, up.T) if norm else None
    embed_scale = layer._get_embed_scale()  # the base's output has it already
    factor = layer.scaling[name] * (1.0 if embed_scale is None else embed_scale.to(up.dtype).float())
    factor = factor if scale is None else factor * scale.float()
    return Part(down=down, up=_scaled(up.T, factor), gain=None if scale is None else scale - 1)


def _dora_norm(layer: Any, name: str, kind: Any) -> Any:
    """Return the layer's DoRA module, or None if it is plain LoRA."""
    variant = layer.lora_variant.get(name)
    norm = dict(layer.lora_magnitude_vector.items()).get(name)
    if variant is None and norm is None:
        return None
    if (class_path(variant), class_path(norm)) != DORA[kind]:
        raise NotBatched(f"{class_path(layer)} is of the variant {class_path(variant)}")
    return norm


def _magnitude(layer: Any, name: str, norm: Any, down: Any, up: Any) -> torch.Tensor:
    """Return DoRA's factor of each output `(out,)`, by PEFT's own functions and in its precision."""
    from peft.utils.integrations import dequantize_module_weight

    weight = dequantize_module_weight(layer.get_base_layer())
    update = norm.get_lora_weight(lora_A=down, lora_B=up)
    length = norm.get_weight_norm(weight.to(update.dtype), update, layer.scaling[name])
    factor: torch.Tensor = (norm.weight / length).detach().reshape(-1)
    return factor


def _tokens(layer: Any, name: str) -> Part:
    base = layer.get_base_layer()
    if getattr(base, "bias", None) is not None:
        raise NotBatched(f"{class_path(layer)} leaves out the bias of the head")
    places = {int(token_id): place for place, token_id in enumerate(layer.token_indices[name])}  # the last one counts
    if any(token_id < 0 for token_id in places):
        raise NotBatched(f"{class_path(layer)} counts tokens from the end")
    ids = torch.tensor(sorted(places), dtype=torch.long)
    rows = layer.trainable_tokens_delta[name].detach()[[places[one] for one in ids.tolist()]].to(base.weight.dtype)
    scale = layer._get_embed_scale() if isinstance(base, torch.nn.Embedding) else None
    return Part(token_ids=ids.to(rows.device), token_rows=rows if scale is None else rows * scale.to(rows.dtype))


def _scaled(tensor: torch.Tensor, factor: Any) -> torch.Tensor:
    scaled: torch.Tensor = tensor.float() * factor
    return scaled.to(tensor.dtype).contiguous()
