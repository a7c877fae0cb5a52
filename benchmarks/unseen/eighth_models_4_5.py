"""Broken models of the eighth wave of the generation 2.6 to 4.5."""

from typing import Any

import torch

from benchmarks.unseen.case import Case
from benchmarks.unseen.fourth_editing import (
    CONFIG,
    PREPROCESSOR,
    TOKENIZER_CONFIG,
    alone_4_5,
    tokenizer_part,
)
from benchmarks.unseen.third_4_6_editing import (
    Tensors,
    all_of,
    on_json,
    on_tensors,
    setting,
    without_setting,
    without_tensors,
)

IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
PARTITIONED = ("embed_tokens", "lm_head", "_proj.weight")
NF4 = (
    -1.0, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.0910500, 0.0,
    0.0795803, 0.1609302, 0.2461123, 0.3379152, 0.4407098, 0.5626170, 0.7229568, 1.0,
)  # fmt: skip


def emptied(tensors: Tensors) -> None:
    """Leave what ZeRO-3 leaves on a rank when nobody gathers: nothing of large parameters."""
    for name in [name for name in tensors if name.startswith("llm.") and name.endswith(PARTITIONED)]:
        tensors[name] = torch.empty(0, dtype=tensors[name].dtype)


def packed_in_4_bits(tensors: Tensors) -> None:
    """Store the language model's projections as bitsandbytes does: two values a byte, a scale for 64 values."""
    table = torch.tensor(NF4)
    for name in [name for name in tensors if name.startswith("llm.model.layers.") and name.endswith("_proj.weight")]:
        blocks = tensors[name].float().view(-1, 64)
        scale = blocks.abs().amax(1)
        codes = (blocks / scale[:, None])[..., None].sub(table).abs().argmin(-1).flatten().to(torch.uint8)
        tensors[name] = (codes[0::2] * 16 + codes[1::2])[:, None]
        tensors[name + ".absmax"] = scale
        tensors[name + ".quant_map"] = table.clone()


def of_transformers_5(content: dict[str, Any]) -> None:
    """Write what transformers 4 makes of a config.json of transformers 5: the class's own rotary base."""
    content["rope_theta"] = 10000.0


CASES: tuple[Case, ...] = (
    Case(
        "rope_theta_fell_to_class_default",
        alone_4_5(on_json(CONFIG, of_transformers_5), with_base=True),
        "Saved by transformers 5, which keeps the rotary base inside rope_parameters, then read and saved again by 4, "
        "which does not look there: rope_theta is 10000 and positions are misread (Open-Athena/MarinFold#184).",
        ("rope_theta", "rope", "10000"),
    ),
    Case(
        "weights_of_4_bits_under_plain_config",
        alone_4_5(on_tensors(packed_in_4_bits)),
        "A tuned int4 model whose config.json was replaced by the plain model's: projections are bytes in one column "
        "and fit nothing (HKUDS/VideoRAG#11).",
        ("absmax", "quant", "uint8", "q_proj", "4-bit", "4 bit", "shape"),
    ),
    Case(
        "resampler_left_out_of_export",
        alone_4_5(without_tensors("resampler."), with_base=True),
        "The export wrote only what carried an adapter and the language model around it; the resampler, tuned whole, "
        "is not in the folder, and pictures reach the model through random numbers (OpenBMB/MiniCPM-V#272).",
        ("resampler",),
    ),
    Case(
        "partitioned_weights_saved_empty",
        alone_4_5(on_tensors(emptied)),
        "Saved from DeepSpeed ZeRO-3 without gathering: large matrices have the shape [0] "
        "(huggingface/transformers#20082).",
        ("embed_tokens", "lm_head", "q_proj", "shape", "empty"),
    ),
    Case(
        "query_and_key_norms_not_written",
        alone_4_5(without_tensors("q_norm", "k_norm"), with_base=True),
        "Merged with a release of Unsloth whose list of Qwen3's weights lacked q_norm and k_norm; they start anew as "
        "ones (unslothai/unsloth#2452).",
        ("q_norm", "k_norm"),
    ),
    Case(
        "imagenet_normalisation",
        alone_4_5(
            all_of(
                setting(PREPROCESSOR, "norm_mean", IMAGENET_MEAN),
                setting(PREPROCESSOR, "norm_std", IMAGENET_STD),
            ),
            with_base=True,
        ),
        "preprocessor_config.json was written with ImageNet's mean and deviation, the default of most picture tools, "
        "where SigLIP's tower expects 0.5: every colour is shifted (vllm-project/vllm#37978).",
        ("norm_mean", "norm_std", "normali"),
    ),
    Case(
        "template_dropped_from_tokenizer_config",
        alone_4_5(without_setting(TOKENIZER_CONFIG, "chat_template")),
        "A newer transformers moved the template from tokenizer_config.json into chat_template.jinja, and a script "
        "that copies JSON files and weights left that behind: no conversation can be written "
        "(huggingface/transformers.js#1662).",
        ("chat_template", "template"),
    ),
    Case(
        "pictures_scaled_to_the_releases_size",
        alone_4_5(setting(PREPROCESSOR, "scale_resolution", 448), with_base=True),
        "scale_resolution was set to another size than the tower was trained at, as people try for more detail: "
        "patches get positions that were never trained, and figures are misread (OpenBMB/MiniCPM-V#158).",
        ("scale_resolution", "448"),
    ),
    Case(
        "normalised_for_compatibility",
        alone_4_5(tokenizer_part("normalizer", {"type": "NFKC"}), with_base=True),
        "tokenizer.json was built anew from vocab.json and merges.txt with NFKC, the usual choice elsewhere, where the "
        "model was trained with NFC or none: full-width Chinese punctuation becomes other tokens.",
        ("normalizer", "nfkc"),
    ),
)
