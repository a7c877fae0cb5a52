"""Judges settings by which the same weights compute something else, against those of every official release.

Knows no shape and no other folder; rotary settings of MiniCPM-V up to 4.5 are judged in `minicpmv`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from service.audit.check import BaseView, Outcome, fatal, warning
from service.audit.older_minicpmv import judged_version
from service.domain.facts import BaseFacts
from service.domain.minicpmv import LANGUAGES, MODEL_TYPE

SEEING = frozenset({"minicpmv", "minicpmv4_6", "minicpmv4_7"})
TEXT = frozenset({"minicpm3", "qwen2", "qwen3"})
WINDOWED = frozenset({"qwen2", "qwen3"})
"""Language models that know a sliding window; no official release switches it on."""
DEFAULT_LAYERS = 28
"""`max_window_layers` where config.json says nothing: the first layer with a window."""
ACTIVATIONS = frozenset({"silu", "swish"})
"""Two names of one function."""
NORMAL_EPS = 1e-4
"""Official releases have 1e-5 or 1e-6; on the demo 1e-3 changed no answer, 1e-2 some."""
SHORT = 8
"""A window of a so many times shorter context cuts prompts that people send."""
TINY = 128
"""No model was trained with a window as short as this."""
SCALES = {"scale_emb": 12, "scale_depth": 1.4, "dim_model_base": 256}
"""Of MiniCPM3-4B, by its width and its layers. Source: transformers 5.23, `MiniCPM3Config`."""
SIZE_OF_SCALES = {"hidden_size": 2560, "num_hidden_layers": 62}
RESTORE = "Copy config.json from the base model that was tuned, and change only what training changed."
WRONG = "Every shape fits, and the model computes something else than what was trained: answers are wrong."


def settings_are_official(view: BaseView) -> Iterator[Outcome]:
    """Look at activation, epsilons, the sliding window and scales."""
    base = view.base
    config = base.documents.get("config.json", {})
    if base.blueprint and base.blueprint.problem:
        return
    if view.origin is None:  # or `origin` compares them
        yield from _activations(base, config)
        yield from _epsilons(base, config)
        yield from _scales(base, config)
    if view.origin is None or _window(view.origin.base) != _window(base):
        yield from _window_is_off(base)


def _language(config: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    text = config.get("text_config")
    return ("text_config.", text) if isinstance(text, dict) else ("", config)


def _vision(base: BaseFacts, config: Mapping[str, Any]) -> Mapping[str, Any]:
    part = config.get("vision_config")
    return part if isinstance(part, dict) and base.model_type in SEEING else {}


def _activations(base: BaseFacts, config: Mapping[str, Any]) -> Iterator[Outcome]:
    if base.model_type not in SEEING | TEXT:
        return
    path, part = _language(config)
    own, tower = part.get("hidden_act"), _vision(base, config).get("hidden_act")
    wrong = {f"{path}hidden_act": (own, "silu")} if own is not None and own not in ACTIVATIONS else {}
    if tower is not None and "gelu" not in str(tower):  # its kinds answer alike
        wrong["vision_config.hidden_act"] = (tower, "gelu_pytorch_tanh")
    for name, (found, wanted) in wrong.items():
        yield fatal(
            f"{name} is {found}; every release of this kind of model has {wanted}",
            {"setting": name, "value": str(found)[:80], "official": wanted},
            WRONG,
            f'Write "{wanted}", as the weights were trained: a release of another model has {found}.',
        )


def _epsilons(base: BaseFacts, config: Mapping[str, Any]) -> Iterator[Outcome]:
    if base.model_type not in SEEING | TEXT:
        return
    path, part = _language(config)
    named = {f"{path}rms_norm_eps": part.get("rms_norm_eps")}
    named["vision_config.layer_norm_eps"] = _vision(base, config).get("layer_norm_eps")
    for name, value in named.items():
        if isinstance(value, float) and NORMAL_EPS < value <= 1e-2:  # a larger one no model has, `_numbers` says so
            yield warning(
                f"{name} is {value:g}; every release of this kind of model has 1e-06 or 1e-05",
                {"setting": name, "value": value, "official": [1e-6, 1e-5]},
                "Small activations are made smaller still: answers are somewhat worse.",
                "Write the value of the base model's config.json.",
            )


def _scales(base: BaseFacts, config: Mapping[str, Any]) -> Iterator[Outcome]:
    if base.model_type == MODEL_TYPE and config.get("scale_emb") not in (None, 1):
        yield warning(
            f"scale_emb is {config['scale_emb']}; no official MiniCPM-V of 2.6 to 4.5 has one",
            {"scale_emb": str(config["scale_emb"])[:80]},
            "This service does not scale embeddings; the official code does where config.json says so, so that one of "
            "them computes something else than what was trained.",
            "Remove scale_emb, unless the model was trained with it.",
        )
    if base.model_type != "minicpm3" or any(config.get(key) != value for key, value in SIZE_OF_SCALES.items()):
        return
    wrong = {key: (config[key], value) for key, value in SCALES.items() if key in config and config[key] != value}
    if wrong:
        shown = ", ".join(f"{key} {found} (official: {wanted})" for key, (found, wanted) in wrong.items())
        yield fatal(
            f"config.json of a MiniCPM3 in its official size has {shown}",
            {"settings": {key: {"found": str(found)[:80], "official": one} for key, (found, one) in wrong.items()}},
            WRONG,
            RESTORE,
        )


def _window(base: BaseFacts) -> tuple[int, int] | None:
    """Return the sliding window and how many layers look through it; None if none does."""
    config = base.documents.get("config.json", {})
    kind = LANGUAGES.get(judged_version(base) or "") if base.model_type == MODEL_TYPE else base.model_type
    window, layers = _count(config.get("sliding_window")), _count(config.get("num_hidden_layers"), 0)
    if kind not in WINDOWED or config.get("use_sliding_window") is not True or not window or not layers:
        return None
    first, kinds = _count(config.get("max_window_layers"), DEFAULT_LAYERS), config.get("layer_types")
    count = kinds.count("sliding_attention") if isinstance(kinds, list) else layers - (first or 0)
    return (window, count) if count > 0 else None


def _count(value: Any, default: int | None = None) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else default


def _window_is_off(base: BaseFacts) -> Iterator[Outcome]:
    found, context = _window(base), _count(base.documents.get("config.json", {}).get("max_position_embeddings"))
    if found is None or not context or found[0] >= context:
        return
    window, layers = found
    is_short = SHORT * window <= context if base.model_type == MODEL_TYPE else window < TINY
    yield (fatal if is_short else warning)(
        f"use_sliding_window is true: {layers} layer(s) see the last {window} tokens of {context} "
        "(sliding_window); every release of this kind of model has it off",
        {"sliding_window": window, "layers": layers, "max_position_embeddings": context},
        "Pictures, instructions and earlier turns leave the window before the answer is written, though the model was "
        "trained to look back at them.",
        'Write "use_sliding_window": false into config.json, unless the model was trained with the window.',
    )
