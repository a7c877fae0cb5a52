"""Broken folders of the generation of 2.6, 4.0 and 4.5: models, and adapters over them."""

from pathlib import Path

import torch

from benchmarks.unseen.case import Bundle, Case
from benchmarks.unseen.fifth_adapters_editing import JSON, fused_qkv, interleaved, with_settings
from benchmarks.unseen.fourth_editing import (
    ADAPTER_CONFIG,
    BASE_4_5,
    CONFIG,
    PREPROCESSOR,
    TEMPLATE,
    TOKENIZER_CONFIG,
    adapted_4_5,
    alone_4_5,
    mean_row,
    saved_modules,
    with_rows,
    writing,
)
from benchmarks.unseen.third_4_6_editing import (
    Tensors,
    all_of,
    copied,
    on_json,
    on_tensors,
    read_tensors,
    renamed,
    setting,
    without_setting,
    without_tensors,
    write_tensors,
)

_EMBEDDINGS = "base_model.model.llm.model.embed_tokens.weight"
_TRAINING_TEMPLATE = """\
{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}\
{% endfor %}"""


def _as_the_first_script_saved(adapter: Path) -> None:
    """Keep factors in the adapter, and everything trained whole in a file that only the script itself knows."""
    whole = saved_modules(adapter)
    torch.save(whole, adapter / "vpm_resampler_embedtokens.pt")
    tensors = {name: one for name, one in read_tensors(adapter).items() if ".lora_" in name}
    write_tensors(adapter, tensors)
    with_settings({"modules_to_save": None})(adapter)


def _of_another_release(parent: Path) -> Bundle:
    return Bundle(BASE_4_5, {"json": copied(JSON, parent)})


def _in_pairs(tensors: Tensors) -> None:
    for name, one in tensors.items():
        if name.startswith("llm.") and name.endswith(("q_proj.weight", "k_proj.weight")):
            tensors[name] = interleaved(one)


def _without_thinking_block(content: dict[str, str]) -> None:
    content["chat_template"] = content["chat_template"].replace(
        "{{- '<think>\\n\\n</think>\\n\\n' -}}", "{{- '<think>\\n' -}}"
    )


CASES = (
    Case(
        "trained_whole_in_a_file_of_its_own",
        adapted_4_5(_as_the_first_script_saved),
        "The first official script saves vision tower, resampler and embeddings beside the adapter, for the user to "
        "load by hand; PEFT never reads that file, and the base's are used. (OpenBMB/MiniCPM-V#298)",
        ("vpm_resampler_embedtokens", "resampler", "vpm", "embed_tokens"),
    ),
    Case(
        "fused_queries_keys_and_values",
        adapted_4_5(
            all_of(
                on_tensors(fused_qkv),
                setting(ADAPTER_CONFIG, "target_modules", ["o_proj", "qkv_proj"]),
                setting(ADAPTER_CONFIG, "exclude_modules", "vpm.*|resampler.*"),
                setting(ADAPTER_CONFIG, "rank_pattern", {"qkv_proj": 192}),
                setting(ADAPTER_CONFIG, "alpha_pattern", {"qkv_proj": 192}),
            )
        ),
        "Trained where queries, keys and values are one matrix, the adapter has factors for qkv_proj, which this model "
        "has not; only those of o_proj arrive. (vllm-project/vllm#4715)",
        ("qkv_proj", "q_proj", "unexpected", "target_modules"),
    ),
    Case(
        "embeddings_of_a_padded_vocabulary",
        adapted_4_5(with_rows(832, mean_row, _EMBEDDINGS)),
        "The trainer padded the vocabulary to a multiple of 64 before it trained the embeddings; the adapter's matrix "
        "does not fit the base, and PEFT cannot load. (huggingface/peft#436)",
        ("embed_tokens", "size", "832", "790", "vocab"),
    ),
    Case(
        "adapter_of_another_release",
        _of_another_release,
        "An adapter of 4.6 is mounted on 4.5: nearly none of its modules exist there, and those that do have other "
        "shapes.",
        ("language_model", "linear_attn", "in_proj", "target_modules", "no effect"),
    ),
    Case(
        "picture_places_of_the_official_file",
        alone_4_5(setting(PREPROCESSOR, "image_feature_size", 64)),
        "The picture settings are those of the official release, copied over: 64 places for a picture whose resampler "
        "gives 16 features.",
        ("image_feature_size", "query_num", "resampler"),
    ),
    Case(
        "head_size_lost",
        alone_4_5(without_setting(CONFIG, "head_dim")),
        "A tool that knows Llama wrote the settings anew without head_dim, which then is the width by the heads; the "
        "weights have twice that. (marin-community/marin#2098)",
        ("head_dim", "q_proj", "q_norm", "size", "shape"),
    ),
    Case(
        "last_layer_of_the_tower_dropped",
        alone_4_5(setting(CONFIG, "drop_vision_last_layer", True)),
        "The setting of a release before, which drops the tower's last layer, was kept for weights that need it; those "
        "of the layer have no place, and it would be missing in every picture.",
        ("drop_vision_last_layer", "layers.3", "last layer"),
    ),
    Case(
        "saved_from_parallel_training",
        alone_4_5(renamed(lambda name: f"module.{name}"), with_base=True),
        "Saved from within the wrapper of parallel training, whose prefix every name has; no weight is found, and the "
        "answers are garbage. (microsoft/dp-transformers#33)",
        ("module.", "prefix", "missing", "unexpected"),
    ),
    Case(
        "rotary_rows_in_pairs",
        alone_4_5(on_tensors(_in_pairs), with_base=True),
        "A converter back from another trainer laid out each head's rows for rotary positions in pairs, where "
        "this model has halves; attention looks at the wrong places. (AI-Hypercomputer/maxtext#581)",
        ("q_proj", "k_proj", "rotary", "self_attn"),
    ),
    Case(
        "thinking_forced_by_a_training_template",
        alone_4_5(on_json(TOKENIZER_CONFIG, _without_thinking_block)),
        "The template was rewritten for training with thoughts, and opens a thought even where none is wanted; the "
        "model has not learnt to close it. (hiyouga/LlamaFactory#7978)",
        ("think", "template", "enable_thinking"),
    ),
    Case(
        "training_template_beside",
        alone_4_5(writing(TEMPLATE, _TRAINING_TEMPLATE)),
        "A newer library saved the trainer's template to a file of its own, which wins over the settings; it never "
        "opens the assistant's turn.",
        ("chat_template", "generation prompt", "template", "assistant"),
    ),
    Case(
        "stretched_positions",
        alone_4_5(
            setting(
                CONFIG,
                "rope_scaling",
                {"rope_type": "linear", "factor": 4.0},
            )
        ),
        "Somebody asked for a longer context by a linear scaling that the model was not trained with; even short "
        "prompts have positions a quarter as far apart.",
        ("rope_scaling", "rope", "factor", "positions"),
    ),
    Case(
        "no_word_of_the_release",
        alone_4_5(without_setting(CONFIG, "version")),
        "A tool wrote the settings anew without the release; other servers guess an old one from its absence. "
        "(vllm-project/vllm#6939)",
        ("version",),
    ),
    Case(
        "norms_of_queries_and_keys_lost",
        alone_4_5(without_tensors("self_attn.q_norm", "self_attn.k_norm")),
        "A converter written for Qwen2, which normalises neither queries nor keys, left their weights out; they are "
        "missing, and ones in their place would be wrong.",
        ("q_norm", "k_norm", "missing"),
    ),
)
