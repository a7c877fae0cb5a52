"""Broken settings: the model's configuration and the processing of pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.unseen.case import Case
from benchmarks.unseen.third_4_6_editing import Edit, all_of, alone, setting, without_files

CONFIG, PROCESSOR = "config.json", "processor_config.json"


def _pictures(settings: Mapping[str, Any]) -> Edit:
    """Set what the processing of pictures and videos have in common."""
    kinds = ("image_processor", "video_processor")
    return all_of(*(setting(PROCESSOR, f"{kind}.{key}", value) for kind in kinds for key, value in settings.items()))


def _save_with_mark(folder: Path) -> None:
    path = folder / CONFIG
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())


CASES = (
    Case(
        "image_token_of_the_release",
        alone(setting(CONFIG, "image_token_id", 248056)),
        "The id of the placeholder was copied from the released model's config. Every picture fails: no token takes "
        "its features.",
        ("image_token_id", "248056", "<|image_pad|>"),
    ),
    Case(
        "rope_theta_of_the_release",
        alone(setting(CONFIG, "text_config.rope_parameters.rope_theta", 10_000_000.0), with_base=True),
        "text_config was copied in part from the released model, with its rope_theta. The base is known. 15 of 36 "
        "right instead of 35.",
        ("rope_theta", "rope_parameters"),
    ),
    Case(
        "every_layer_attends_fully",
        alone(setting(CONFIG, "text_config.layer_types", ["full_attention"] * 4)),
        "layer_types was filled in with the default of an ordinary transformer; three layers start from nothing: 2 "
        "or 3 of 36 right instead of 35.",
        ("layer_types", "self_attn", "linear_attn"),
    ),
    Case(
        "vision_layer_cut",
        alone(setting(CONFIG, "vision_config.num_hidden_layers", 3)),
        "The number of vision layers was copied from a smaller tower: the last layer's weights go unused. 160 "
        "of 180 right instead of 176, and 10 of 18 descriptions.",
        ("num_hidden_layers", "layers.3", "vision_tower"),
    ),
    Case(
        "context_of_32_tokens",
        alone(setting(CONFIG, "text_config.max_position_embeddings", 32)),
        "Somebody meant 32k. The engine gives prompt and answer together 32 tokens, and each of the questions with a "
        "picture has more: all are refused.",
        ("max_position_embeddings", "32 tokens"),
    ),
    Case(
        "config_with_byte_order_mark",
        alone(_save_with_mark),
        "config.json was saved by an editor that puts a byte order mark in front: it does not parse.",
        (CONFIG,),
    ),
    Case(
        "processor_forgotten",
        alone(without_files(PROCESSOR)),
        "The model was saved and the tokenizer, but not the processor: it cannot be built.",
        ("processor_config", "preprocessor_config", "image processor", "image_processor"),
    ),
    Case(
        "fewer_placeholders_than_features",
        alone(_pictures({"downsample_mode": "16x"})),
        "The processor has the released model's downsample_mode, the model its own. Every picture fails: it has four "
        "placeholders and sixteen features.",
        ("downsample_mode",),
    ),
    Case(
        "pixels_not_rescaled",
        alone(_pictures({"rescale_factor": 1.0})),
        "rescale_factor was set to 1 for arrays that were rescaled already; pictures from files are not, and are "
        "clipped to noise for the tower: 14 of 36 right instead of 35.",
        ("rescale_factor",),
    ),
    Case(
        "normalised_for_clip",
        alone(
            _pictures(
                {
                    "image_mean": [0.48145466, 0.4578275, 0.40821073],
                    "image_std": [0.26862954, 0.26130258, 0.27577711],
                }
            ),
            with_base=True,
        ),
        "Mean and deviation of CLIP's pictures, out of a training script's own transform. The base is known. 159 "
        "of 180 right instead of 176, and 10 of 18 descriptions.",
        ("image_mean", "image_std"),
    ),
)
