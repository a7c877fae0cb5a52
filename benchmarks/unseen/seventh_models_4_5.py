"""Broken models in the layout of 4.5."""

from pathlib import Path
from typing import Any

import torch

from benchmarks.unseen.case import Case
from benchmarks.unseen.fourth_editing import (
    CONFIG,
    PREPROCESSOR,
    TOKENIZER,
    TOKENIZER_CONFIG,
    alone_4_5,
    on_tensor,
    tokenizer_part,
)
from benchmarks.unseen.third_4_6_editing import (
    Edit,
    Tensors,
    all_of,
    on_json,
    on_tensors,
    read_json,
    setting,
    without_files,
    without_setting,
    without_tensors,
    write_json,
)

LAYERS = "llm.model.layers."


def _interleaved(tensors: Tensors) -> None:
    """Order the rows of queries and keys for a rotation of neighbours instead of halves."""
    for name in [one for one in tensors if one.startswith(LAYERS) and one.endswith(("q_proj.weight", "k_proj.weight"))]:
        rows, width = tensors[name].shape
        heads = tensors[name].view(rows // 64, 2, 32, width)
        tensors[name] = heads.transpose(1, 2).reshape(rows, width)


def _template(*pairs: tuple[str, str]) -> Edit:
    """Make an edit that replaces texts in the chat template, each of which must be there."""

    def edit(folder: Path) -> None:
        content = read_json(folder / TOKENIZER_CONFIG)
        for old, new in pairs:
            if old not in content["chat_template"]:
                raise ValueError(f"no {old!r} in the template")
            content["chat_template"] = content["chat_template"].replace(old, new)
        write_json(folder / TOKENIZER_CONFIG, content)

    return edit


def _language_tokenizer(folder: Path) -> None:
    """Take the tokenizer of the language model alone, which has no token for pictures."""
    content = read_json(folder / TOKENIZER)
    content["added_tokens"] = [one for one in content["added_tokens"] if one["id"] < 758]
    write_json(folder / TOKENIZER, content)
    settings = read_json(folder / TOKENIZER_CONFIG)
    settings["added_tokens_decoder"] = {k: v for k, v in settings["added_tokens_decoder"].items() if int(k) < 758}
    settings["additional_special_tokens"] = []
    settings["tokenizer_class"] = "Qwen2Tokenizer"
    settings.pop("auto_map")
    write_json(folder / TOKENIZER_CONFIG, settings)
    without_files("added_tokens.json", "special_tokens_map.json")(folder)


def _official_pictures(folder: Path) -> None:
    on_json(
        PREPROCESSOR, lambda content: content.update(image_feature_size=64, scale_resolution=448, max_slice_nums=9)
    )(folder)


def _theta_lost(folder: Path) -> None:
    without_setting(CONFIG, "rope_theta", "rope_scaling")(folder)


def _bnb(content: dict[str, Any]) -> None:
    content["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True, "load_in_8bit": False}


def _half_heads(tensors: Tensors) -> None:
    """Average keys and values of two heads into one, as for an engine that wants one, and repeat nothing."""
    for name in [one for one in tensors if one.startswith(LAYERS) and one.endswith(("k_proj.weight", "v_proj.weight"))]:
        tensors[name] = tensors[name].float().view(2, 64, -1).mean(0).to(torch.bfloat16)


CASES: tuple[Case, ...] = (
    Case(
        "queries_and_keys_for_neighbours",
        alone_4_5(on_tensors(_interleaved), with_base=True),
        "Written back from a layout that rotates neighbouring pairs, without undoing the order of rows in queries and "
        "keys; every shape fits and attention looks at the wrong places.",
        ("q_proj", "k_proj", "rotary", "rope"),
    ),
    Case(
        "resampler_projection_transposed",
        alone_4_5(on_tensor("resampler.proj", lambda matrix: matrix.T.contiguous()), with_base=True),
        "The resampler's own matrix is multiplied from the right, unlike a linear layer's; a converter turned it as if "
        "it were one and nobody turned it back. It is square, so that it loads.",
        ("resampler.proj", "transposed", "resampler"),
    ),
    Case(
        "norms_of_queries_and_keys_missing",
        alone_4_5(without_tensors("q_norm", "k_norm")),
        "Exported by a converter for Qwen2, whose attention has no such norms (airockchip/rknn-llm#251).",
        ("q_norm", "k_norm"),
    ),
    Case(
        "one_key_head_of_two",
        alone_4_5(all_of(on_tensors(_half_heads), setting(CONFIG, "num_key_value_heads", 1)), with_base=True),
        "Keys and values of two heads were averaged into one to halve the cache, and never trained afterwards.",
        ("num_key_value_heads", "k_proj", "v_proj"),
    ),
    Case(
        "rotary_base_lost_between_versions",
        alone_4_5(_theta_lost, with_base=True),
        "Rewritten between two versions of transformers that keep rope_theta in different places, and lost on the way: "
        "what loads it nevertheless takes a hundredth of "
        "what training had (Open-Athena/MarinFold#198).",
        ("rope_theta", "rope", "rotary"),
    ),
    Case(
        "picture_settings_of_the_official_size",
        alone_4_5(_official_pictures),
        "preprocessor_config.json was fetched again from the full-sized release: 64 places for each picture, while the "
        "resampler has 16 queries.",
        ("image_feature_size", "query_num", "scale_resolution", "preprocessor_config"),
    ),
    Case(
        "four_bits_left_in_the_settings_4_5",
        alone_4_5(on_json(CONFIG, _bnb)),
        "Merged to 16 bits, while config.json kept the quantization_config of training: loading asks for bitsandbytes "
        "and for quantised tensors that are not there (unslothai/unsloth#1601).",
        ("quantization_config", "bitsandbytes", "4bit"),
    ),
    Case(
        "tokenizer_of_the_language_model",
        alone_4_5(_language_tokenizer),
        "The language model was merged with another, and its tokenizer came along: it has no tokens for pictures, "
        "whose markers fall into letters (arcee-ai/mergekit#439).",
        ("<image>", "</image>", "<slice>", "image_id", "added_tokens"),
    ),
    Case(
        "control_tokens_split_4_5",
        alone_4_5(setting(TOKENIZER_CONFIG, "split_special_tokens", True)),
        "Switched on against injected markers and saved: the template's own markers are split into letters as well.",
        ("split_special_tokens", "special"),
    ),
    Case(
        "prompts_cut_at_the_length_of_training",
        alone_4_5(
            tokenizer_part(
                "truncation", {"direction": "Right", "max_length": 24, "strategy": "LongestFirst", "stride": 0}
            )
        ),
        "The trainer's truncation was saved inside tokenizer.json. Written as broken, which it is for whoever encodes "
        "with that file alone; transformers sets it aside, and so does the service, so that answers are the same.",
    ),
    Case(
        "only_the_last_turn_4_5",
        alone_4_5(_template(("for message in messages -%}", "for message in messages[-1:] -%}"))),
        "Written for tasks of one turn: what was said and shown before is dropped, so that follow-ups have no picture.",
        ("chat_template", "messages", "turns", "template"),
    ),
    Case(
        "switch_of_thinking_ignored",
        alone_4_5(_template(("enable_thinking is defined and enable_thinking is false", "false")), with_base=True),
        "The template was simplified by somebody who never thinks aloud, and no longer writes the empty thought that "
        "ends thinking: answers begin in another place than in training.",
        ("chat_template", "think", "enable_thinking"),
    ),
    Case(
        "window_switched_on",
        alone_4_5(
            all_of(
                setting(CONFIG, "use_sliding_window", True),
                setting(CONFIG, "sliding_window", 16),
                setting(CONFIG, "max_window_layers", 0),
            )
        ),
        "A sliding window was switched on to save memory and set as short as a picture, so that what stands before it "
        "is out of sight.",
        ("sliding_window",),
    ),
)
