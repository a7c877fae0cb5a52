"""Lists the tensors of MiniCPM-V 2.6, 4.0 and 4.5, whose class transformers does not have.

Knows names and shapes only. Source: the tensor indexes of the official checkpoints; the language part has the names of
Qwen2, Llama and Qwen3, the tower those of SigLIP.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from service.domain.facts import BlueprintFacts, TensorFacts
from service.domain.minicpmv import LANGUAGES, misfit_fields, version_of

CLASSES = ("MiniCPMV",)
DEFAULTS: dict[str, Any] = {
    "slice_mode": True,
    "query_num": 64,
    "image_size": 448,
    "patch_size": 14,
    "use_image_id": True,
    "batch_vision_input": True,
    "batch_3d_resampler": True,
    "tie_word_embeddings": False,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "attention_bias": False,
    "use_sliding_window": False,
}
"""What the official config class fills in, but for `drop_vision_last_layer`: where it is missing, the files decide."""
VISION_DEFAULTS: dict[str, Any] = {
    "num_channels": 3,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
    "attention_dropout": 0.0,
}

Shapes = Iterator[tuple[str, tuple[int, ...]]]


def minicpmv_blueprint(config: Mapping[str, Any], tensors: Mapping[str, TensorFacts]) -> BlueprintFacts | None:
    """Compare a flat MiniCPM-V config with the tensors; None if a size is missing or of another type."""
    if misfit_fields(config):
        return None
    vision = config.get("vision_config")
    settings = {**DEFAULTS, **config}
    if isinstance(vision, dict):
        settings["vision_config"] = {**VISION_DEFAULTS, **vision}
        settings.setdefault("drop_vision_last_layer", _lacks_last_layer(vision.get("num_hidden_layers"), tensors))
    try:
        needed = dict(_needed(settings, tensors))
    except (KeyError, TypeError, ZeroDivisionError):
        return None
    return BlueprintFacts(
        source="the official checkpoints",
        classes=CLASSES,
        config=settings,
        is_tied=settings["tie_word_embeddings"] is True,
        parameters=needed,
        missing=tuple(sorted(needed.keys() - tensors.keys())),
        unused=tuple(sorted(tensors.keys() - needed.keys())),
        misshapen={
            name: (tensors[name].shape, shape)
            for name, shape in needed.items()
            if name in tensors and tensors[name].shape != shape
        },
    )


def _lacks_last_layer(declared: Any, tensors: Mapping[str, TensorFacts]) -> bool:
    """Say whether the tower stops one layer before the end that config.json declares."""
    layers = [f"vpm.encoder.layers.{declared - back}." for back in (1, 2)] if isinstance(declared, int) else []
    held = [any(name.startswith(layer) for name in tensors) for layer in layers]
    return held == [False, True]


def _needed(config: Mapping[str, Any], tensors: Mapping[str, TensorFacts]) -> Shapes:
    yield from _language(config, tensors)
    yield from _tower(config["vision_config"], is_cut=config["drop_vision_last_layer"] is True)
    yield from _resampler(config["hidden_size"], config["vision_config"]["hidden_size"], config["query_num"])


def _language(config: Mapping[str, Any], tensors: Mapping[str, TensorFacts]) -> Shapes:
    hidden, inner, heads = config["hidden_size"], config["intermediate_size"], config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads") or heads
    head = config.get("head_dim") or hidden // heads
    has_bias = any(name.endswith("self_attn.q_proj.bias") and name.startswith("llm.") for name in tensors)
    is_biased = config["attention_bias"] is True and LANGUAGES.get(version_of(config) or "") in ("llama", "qwen3")
    has_norms = any(name.endswith("self_attn.q_norm.weight") for name in tensors)
    yield "llm.model.embed_tokens.weight", (config["vocab_size"], hidden)
    if config["tie_word_embeddings"] is not True:
        yield "llm.lm_head.weight", (config["vocab_size"], hidden)
    yield "llm.model.norm.weight", (hidden,)
    for place in range(min(config["num_hidden_layers"], 2000)):
        layer = f"llm.model.layers.{place}"
        yield f"{layer}.input_layernorm.weight", (hidden,)
        yield f"{layer}.post_attention_layernorm.weight", (hidden,)
        yield f"{layer}.mlp.gate_proj.weight", (inner, hidden)
        yield f"{layer}.mlp.up_proj.weight", (inner, hidden)
        yield f"{layer}.mlp.down_proj.weight", (hidden, inner)
        yield f"{layer}.self_attn.o_proj.weight", (hidden, heads * head)
        for name, count in (("q", heads), ("k", kv_heads), ("v", kv_heads)):
            yield f"{layer}.self_attn.{name}_proj.weight", (count * head, hidden)
            if has_bias or is_biased:
                yield f"{layer}.self_attn.{name}_proj.bias", (count * head,)
        if is_biased:
            yield f"{layer}.self_attn.o_proj.bias", (hidden,)
        if has_norms:
            yield f"{layer}.self_attn.q_norm.weight", (head,)
            yield f"{layer}.self_attn.k_norm.weight", (head,)


def _tower(vision: Mapping[str, Any], *, is_cut: bool) -> Shapes:
    hidden, inner, patch = vision["hidden_size"], vision["intermediate_size"], vision["patch_size"]
    yield "vpm.embeddings.patch_embedding.weight", (hidden, vision["num_channels"], patch, patch)
    yield "vpm.embeddings.patch_embedding.bias", (hidden,)
    yield "vpm.embeddings.position_embedding.weight", ((vision["image_size"] // patch) ** 2, hidden)
    for place in range(min(vision["num_hidden_layers"], 2000) - is_cut):
        layer = f"vpm.encoder.layers.{place}"
        for name, out, within in (
            *((f"self_attn.{one}_proj", hidden, hidden) for one in ("q", "k", "v", "out")),
            ("mlp.fc1", inner, hidden),
            ("mlp.fc2", hidden, inner),
        ):
            yield f"{layer}.{name}.weight", (out, within)
            yield f"{layer}.{name}.bias", (out,)
        yield from _norm(f"{layer}.layer_norm1", hidden)
        yield from _norm(f"{layer}.layer_norm2", hidden)
    yield from _norm("vpm.post_layernorm", hidden)


def _resampler(hidden: int, vision: int, queries: int) -> Shapes:
    yield "resampler.query", (queries, hidden)
    if vision != hidden:
        yield "resampler.kv_proj.weight", (hidden, vision)
    yield "resampler.attn.in_proj_weight", (3 * hidden, hidden)
    yield "resampler.attn.in_proj_bias", (3 * hidden,)
    yield "resampler.attn.out_proj.weight", (hidden, hidden)
    yield "resampler.attn.out_proj.bias", (hidden,)
    yield "resampler.proj", (hidden, hidden)
    for name in ("ln_q", "ln_kv", "ln_post"):
        yield from _norm(f"resampler.{name}", hidden)


def _norm(name: str, size: int) -> Shapes:
    yield f"{name}.weight", (size,)
    yield f"{name}.bias", (size,)
