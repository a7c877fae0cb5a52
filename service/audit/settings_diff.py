"""Compares the settings of two folders of one model type, and says which differences decide what weights mean.

Knows no tensor. Both sides are compared as the model's class reads them, or for models that it does not know by a list.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from service.domain.facts import BaseFacts

SILENT = frozenset(
    {
        *("transformers_version", "architectures", "dtype", "torch_dtype", "use_cache", "_name_or_path", "auto_map"),
        *("output_hidden_states", "output_attentions", "return_dict", "chunk_size_feed_forward", "is_encoder_decoder"),
        *("id2label", "label2id", "problem_type", "initializer_range", "pretraining_tp", "model_type"),
        *("vocab_size", "tie_word_embeddings", "attention_dropout", "quantization_config", "initializer_factor"),
        *("image_start_id", "image_end_id", "slice_start_id", "slice_end_id", "newline_id"),
    }
)
"""Without meaning for weights, or the matter of other checks."""
SOFT = frozenset({"max_position_embeddings", "max_window_layers", "image_size", "vision_batch_size"})
MILD = frozenset({"downsample_mode", "rms_norm_eps", "layer_norm_eps", "use_image_id", "slice_mode", "max_slice_nums"})
SHAPING = frozenset(
    {
        *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
        *("head_dim", "layer_types", "patch_size", "query_num", "window_kernel_size", "merger_times", "attention_bias"),
        *("linear_key_head_dim", "linear_value_head_dim", "linear_num_key_heads", "linear_num_value_heads"),
        *("q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "image_size"),
        *("linear_conv_kernel_dim", "num_channels", "drop_vision_last_layer", "qk_head_dim"),
    }
)
"""Of which shapes follow: where the tensors no longer fit, `weights_complete` says so."""
LISTED = frozenset(
    {
        *("version", "query_num", "drop_vision_last_layer", "hidden_act", "rms_norm_eps", "num_attention_heads"),
        *("num_key_value_heads", "head_dim", "num_hidden_layers", "patch_size", "use_sliding_window", "scale_emb"),
        *("scale_depth", "dim_model_base", "batch_3d_resampler", "use_image_id", "slice_mode", "rope_theta"),
        *("rope_scaling", "layer_norm_eps", "max_slice_nums", "scale_resolution", "hidden_size"),
    }
)
"""For models of which the class is not known: settings that are compared."""
PICTURE_DEFAULTS: dict[str, Any] = {
    "max_slice_nums": 9,
    "scale_resolution": 448,
    "slice_mode": True,
    "use_image_id": True,
    "resample": 3,
}
PIXELS = (
    *("patch_size", "image_mean", "image_std", "norm_mean", "norm_std"),
    *("do_normalize", "do_rescale", "rescale_factor"),
)
"""What every picture passes through."""
Documents = Mapping[str, Mapping[str, Any]]
TEXT = ("text_config", "vision_config", "slice_config")


@dataclass(frozen=True, slots=True)
class Difference:
    """One setting: the origin's value and the folder's; `weight` is `decides`, `matters` or `note`."""

    values: tuple[Any, Any]
    weight: str


def differing_settings(origin: BaseFacts, base: BaseFacts) -> dict[str, Difference]:
    """Return the settings that differ, by their path in config.json."""
    old, new = _settings(origin), _settings(base)
    is_told = _are_shapes_told(base)
    found = {}
    for path in sorted(old.keys() | new.keys()):
        key = path.rsplit(".", 1)[-1]
        before, after = old.get(path), new.get(path)
        if _same(before, after) or key in SILENT or key.endswith("_token_id") or (is_told and key in SHAPING):
            continue
        weight = "note" if key in SOFT and not path.startswith("vision") else "matters" if key in MILD else "decides"
        found[path] = Difference((before, after), weight)
    return found


def picture_differences(before: Documents, after: Documents, *, with_pixels: bool = False) -> dict[str, Difference]:
    """Return the settings of the processors that differ, by `image` or `video` and their key.

    Args:
        before: Documents of the folder that training began with, by file name.
        after: Documents of the other folder.
        with_pixels: Compare also what becomes of pixel values, where both sides say so. A base's own are compared with
            what its tower takes, which needs no other folder.
    """
    found: dict[str, Difference] = {}
    for name, rule in (("image", image_settings), ("video", video_settings)):
        old, new = rule(before), rule(after)
        if old is None or new is None:
            continue
        pairs = {key: (old.get(key, default), new.get(key, default)) for key, default in PICTURE_DEFAULTS.items()}
        if with_pixels:
            pairs |= {key: (old[key], new[key]) for key in PIXELS if key in old and key in new}
        for key, both in pairs.items():
            if not _same(*both):
                is_slicing = new.get("slice_mode", True) is not False
                weight = _picture_weight(key, *both, is_slicing=is_slicing) if name == "image" else "matters"
                found[f"{name}.{key}"] = Difference(both, weight)
    return found


def _picture_weight(key: str, before: Any, after: Any, *, is_slicing: bool) -> str:
    """Say whether every picture, or what training never showed, is concerned.

    Measured on the demo, which answers 118 of 120: 48 with four times its resolution and 57 with half, 74 with slices
    that it never saw; 118 without slicing, numbers of pictures, or smooth resampling.
    """
    is_first_sliced = key == "max_slice_nums" and before == 1 and isinstance(after, int) and after > 1 and is_slicing
    return "decides" if key == "scale_resolution" or key in PIXELS or is_first_sliced else "matters"


def image_settings(documents: Documents) -> Mapping[str, Any] | None:
    """Return the settings that transformers takes for pictures: nested ones before a file of their own."""
    nested = documents.get("processor_config.json", {}).get("image_processor")
    return nested if isinstance(nested, dict) else documents.get("preprocessor_config.json")


def video_settings(documents: Documents) -> Mapping[str, Any] | None:
    """Return the settings that transformers takes for videos."""
    nested = documents.get("processor_config.json", {}).get("video_processor")
    return nested if isinstance(nested, dict) else documents.get("video_preprocessor_config.json")


def _settings(base: BaseFacts) -> dict[str, Any]:
    blueprint = base.blueprint
    if base.is_native:
        return dict(_flat(blueprint.config)) if blueprint else {}
    raw = dict(blueprint.config if blueprint else base.documents.get("config.json", {}))
    rope = raw.pop("rope_parameters", None)
    if isinstance(rope, dict):  # as transformers 5 spells it
        raw["rope_theta"] = rope.get("rope_theta", raw.get("rope_theta"))
        rest = {key: one for key, one in rope.items() if key != "rope_theta" and (key, one) != ("rope_type", "default")}
        raw["rope_scaling"] = rest or None
    return {path: one for path, one in _flat(raw) if path.split(".")[0] in LISTED or path.rsplit(".", 1)[-1] in LISTED}


def _flat(part: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in part.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def _are_shapes_told(base: BaseFacts) -> bool:
    blueprint = base.blueprint
    return blueprint is None or bool(blueprint.problem or blueprint.missing or blueprint.misshapen or blueprint.unused)


def _same(old: Any, new: Any) -> bool:
    if isinstance(old, bool) or isinstance(new, bool):
        return old is new or old == new
    if isinstance(old, int | float) and isinstance(new, int | float):
        return bool(abs(old - new) <= 1e-9 * max(abs(old), abs(new)))
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(_same(*both) for both in zip(old, new, strict=True))
    return bool(old == new)
