"""Cases of `wave_third_4_5` about config.json, generation_config.json and preprocessor_config.json."""

from pathlib import Path
from typing import Any

from benchmarks.unseen.case import Bundle
from benchmarks.unseen.third_4_5_folders import Collector, copy_base, json_of

COLLECTED = Collector()
PICTURES = "preprocessor_config.json"


def _with_settings(folder: Path, file: str = "config.json", **changed: Any) -> Bundle:
    model = copy_base(folder)
    with json_of(model / file) as document:
        document |= changed
    return Bundle(model)


@COLLECTED.broken(
    "The rotary base is that of the Llama release, as a script wrote the config anew with a default: 17 of 30 right "
    "instead of 30.",
    "rope_theta", "rope",
)  # fmt: skip
def _rotary_base_of_another_release(folder: Path) -> Bundle:
    return _with_settings(folder, rope_theta=10000)


@COLLECTED.broken(
    "A sliding window was switched on for all layers to save memory: pictures and instructions leave the window before "
    "the answer is written, 0 of 30 right instead of 30.",
    "sliding_window",
)
def _sliding_window_switched_on(folder: Path) -> Bundle:
    return _with_settings(folder, use_sliding_window=True, sliding_window=8, max_window_layers=0)


@COLLECTED.broken(
    "preprocessor_config.json came from the official release, whose pictures are 64 tokens; this resampler has 16 "
    "queries: it cannot be loaded.",
    "image_feature_size", "query_num",
)  # fmt: skip
def _picture_tokens_of_official_release(folder: Path) -> Bundle:
    return _with_settings(folder, PICTURES, image_feature_size=64)


@COLLECTED.broken(
    "The resolution of the official release was copied; pictures reach the tower four times as large as in training: "
    "15 of 30 right instead of 30.",
    "scale_resolution", "image_size",
)  # fmt: skip
def _resolution_of_official_release(folder: Path) -> Bundle:
    return _with_settings(folder, PICTURES, scale_resolution=448)


@COLLECTED.broken(
    "Pixels are no longer centred: somebody read the mean as an error and wrote the neutral values: 17 of 30 right "
    "instead of 30.",
    "norm_mean", "norm_std",
)  # fmt: skip
def _pixels_not_normalised(folder: Path) -> Bundle:
    return _with_settings(folder, PICTURES, norm_mean=[0.0, 0.0, 0.0], norm_std=[1.0, 1.0, 1.0])


@COLLECTED.broken(
    "Up to nine slices, as the official file has it, for a model tuned on whole pictures only: 24 of 30 right instead "
    "of 30.",
    "max_slice_nums",
)
def _slices_that_training_never_cut(folder: Path) -> Bundle:
    return _with_settings(folder, PICTURES, max_slice_nums=9)


@COLLECTED.broken(
    "A merge script saved model and tokenizer, and not the processor: it cannot be loaded.",
    "preprocessor_config",
    "processor",
)
def _processor_not_saved(folder: Path) -> Bundle:
    model = copy_base(folder)
    (model / PICTURES).unlink()
    return Bundle(model)


@COLLECTED.harmless(
    "Without generation_config.json, which merge scripts forget; the family's own ends remain: 30 of 30 right."
)
def _generation_config_missing(folder: Path) -> Bundle:
    model = copy_base(folder)
    (model / "generation_config.json").unlink()
    return Bundle(model)


@COLLECTED.harmless("The rotary base in the field that transformers 5 writes: 30 of 30 right.")
def _rope_parameters_of_transformers_5(folder: Path) -> Bundle:
    model = copy_base(folder)
    with json_of(model / "config.json") as config:
        theta = config.pop("rope_theta")
        config.pop("rope_scaling")
        config["rope_parameters"] = {"rope_type": "default", "rope_theta": theta}
        config["dtype"] = config.pop("torch_dtype")
        config["transformers_version"] = "5.2.0"
    return Bundle(model)


@COLLECTED.harmless(
    "What trainers leave in config.json, and numbers without use while the window is off: 30 of 30 right."
)
def _config_with_leftovers_of_training(folder: Path) -> Bundle:
    leftovers: dict[str, Any] = {
        "_name_or_path": "/root/models/MiniCPM-V-4_5", "_attn_implementation_autoset": True, "use_cache": False,
        "unsloth_fixed": True, "sliding_window": 64, "max_window_layers": 28, "transformers_version": "4.57.1",
        "pad_token_id": 749, "attention_dropout": 0.1,
    }  # fmt: skip
    return _with_settings(folder, **leftovers)


@COLLECTED.harmless("An epsilon ten times as large, as in other releases of the language model: 30 of 30 right.")
def _epsilon_of_another_release(folder: Path) -> Bundle:
    return _with_settings(folder, rms_norm_eps=1e-5)


@COLLECTED.harmless("The stop ids hold ids of reserved tokens too, and the sampling is another: 30 of 30 right.")
def _more_stop_ids_and_other_sampling(folder: Path) -> Bundle:
    return _with_settings(
        folder, "generation_config.json", eos_token_id=[751, 749, 774, 775], temperature=1.0, top_k=0,
        repetition_penalty=1.02, max_new_tokens=4096,
    )  # fmt: skip


@COLLECTED.harmless(
    "A longer context than trained, which the rotary base covers and no question reaches: 30 of 30 right."
)
def _longer_context(folder: Path) -> Bundle:
    model = _with_settings(folder, max_position_embeddings=32768).model
    with json_of(model / "tokenizer_config.json") as config:
        config["model_max_length"] = 131072
    return Bundle(model)


@COLLECTED.harmless("Marks and picture settings that are the defaults anyway were left out: 30 of 30 right.")
def _processor_settings_without_defaults(folder: Path) -> Bundle:
    model = copy_base(folder)
    with json_of(model / PICTURES) as document:
        for key in ("im_start", "im_end", "slice_start", "slice_end", "unk", "im_id_start", "im_id_end", "norm_mean"):
            document.pop(key)
    return Bundle(model)


@COLLECTED.harmless(
    "No remote code is named, as for a model that transformers is to load without trust: 30 of 30 right."
)
def _without_auto_map(folder: Path) -> Bundle:
    model = copy_base(folder)
    for name in ("config.json", PICTURES, "tokenizer_config.json"):
        with json_of(model / name) as document:
            document.pop("auto_map")
    with json_of(model / "tokenizer_config.json") as config:
        config["tokenizer_class"] = "Qwen2TokenizerFast"
    return Bundle(model)
