"""Broken models of the 4.5 demo: conversions, pruning, half merges, and files of other releases."""

import shutil
from pathlib import Path
from typing import Any

import torch

from benchmarks.unseen.case import Case
from benchmarks.unseen.fourth_editing import (
    ADAPTERS_4_5,
    CONFIG,
    PREPROCESSOR,
    TOKENIZER,
    TOKENIZER_CONFIG,
    alone_4_5,
    merging,
    names_of,
    said_to_merge_4_5,
    saved_modules,
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
    without_setting,
    without_tensors,
    write_json,
)

HEAD_SIZE = 64
LAYERS = "llm.model.layers."
TOOL_TOKENS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
OFFICIAL = ADAPTERS_4_5 / "official"


def _permute_heads(tensors: Tensors) -> None:
    for name in names_of(tensors, ("self_attn.q_proj.weight", "self_attn.k_proj.weight")):
        if name.startswith(LAYERS):
            rows, columns = tensors[name].shape
            halves = tensors[name].reshape(rows // HEAD_SIZE, 2, HEAD_SIZE // 2, columns)
            tensors[name] = halves.swapaxes(1, 2).reshape(rows, columns).contiguous()


def _prune_middle(tensors: Tensors) -> Tensors:
    kept = {name: one for name, one in tensors.items() if not name.startswith((f"{LAYERS}1.", f"{LAYERS}2."))}
    return {name.replace(f"{LAYERS}3.", f"{LAYERS}1."): one for name, one in kept.items()}


def _smooth_norms_only(tensors: Tensors) -> None:
    generator = torch.Generator().manual_seed(4)
    for name in names_of(tensors, ("post_attention_layernorm.weight",)):
        scale = torch.exp(torch.randn(len(tensors[name]), generator=generator) * 1.2)
        tensors[name] = (tensors[name].float() / scale).to(tensors[name].dtype)


def _copy_saved_modules(tensors: Tensors) -> None:
    tensors.update({name: one.to(torch.bfloat16) for name, one in saved_modules(OFFICIAL).items() if name in tensors})


def _without_tool_tokens(model: Path) -> None:
    def moved(place: int) -> int:
        return place if place < 752 else place - len(TOOL_TOKENS)

    content = read_json(model / TOKENIZER)
    kept = [one for one in content["added_tokens"] if one["content"] not in TOOL_TOKENS]
    content["added_tokens"] = [{**one, "id": moved(one["id"])} for one in kept]
    write_json(model / TOKENIZER, content)
    settings = read_json(model / TOKENIZER_CONFIG)
    listed: dict[str, Any] = settings["added_tokens_decoder"]
    settings["added_tokens_decoder"] = {
        str(moved(int(place))): one for place, one in listed.items() if one["content"] not in TOOL_TOKENS
    }
    write_json(model / TOKENIZER_CONFIG, settings)
    added = read_json(model / "added_tokens.json")
    write_json(
        model / "added_tokens.json",
        {token: moved(place) for token, place in added.items() if token not in TOOL_TOKENS},
    )


def _end_prompts(content: dict[str, Any]) -> None:
    content["post_processor"]["single"].append({"SpecialToken": {"id": "<|im_end|>", "type_id": 0}})
    content["post_processor"]["special_tokens"] = {
        "<|im_end|>": {"id": "<|im_end|>", "ids": [751], "tokens": ["<|im_end|>"]}
    }


def _adapter_beside(model: Path) -> None:
    shutil.copytree(OFFICIAL, model / "lora_adapter")


MERGE: Edit = all_of(merging(OFFICIAL), on_tensors(_copy_saved_modules))

CASES: tuple[Case, ...] = (
    Case(
        "queries_and_keys_as_gguf_permutes_them",
        alone_4_5(on_tensors(_permute_heads), with_base=True),
        "Weights taken back from a GGUF file without undoing its permutation of query and key rows; positions are "
        "turned into noise (huggingface/transformers#31766)",
        ("q_proj", "k_proj"),
    ),
    Case(
        "middle_layers_pruned_and_never_healed",
        alone_4_5(all_of(on_tensors(_prune_middle), setting(CONFIG, "num_hidden_layers", 2)), with_base=True),
        "The middle layers were cut out to make the model smaller, and config.json says so, but nothing was trained "
        "afterwards and answers are wrong (horseee/LLaMA-Pruning#1)",
        ("num_hidden_layers", "layers"),
    ),
    Case(
        "norms_of_queries_and_keys_not_merged",
        alone_4_5(without_tensors("self_attn.q_norm", "self_attn.k_norm")),
        "A tool that copied the tensors of older models layer by layer knew no norms of queries and keys, and the "
        "merged folder lacks them (unslothai/unsloth#2452)",
        ("q_norm", "k_norm"),
    ),
    Case(
        "tokenizer_of_a_release_without_tools",
        alone_4_5(_without_tool_tokens),
        "The tokenizer of an older release, which has no tokens for tools; every later token, those of pictures among "
        "them, is four places off",
        ("<tool_call>", "<image>", "<think>", "tokenizer", "added", "ids"),
    ),
    Case(
        "picture_tokens_of_the_official_processor",
        alone_4_5(setting(PREPROCESSOR, "image_feature_size", 64)),
        "preprocessor_config.json was missing after training and was fetched from the official release, whose pictures "
        "have 64 tokens; the resampler here makes 16 (OpenBMB/MiniCPM-V#408)",
        ("image_feature_size", "query_num", "resampler"),
    ),
    Case(
        "rope_theta_lost_between_versions",
        alone_4_5(without_setting(CONFIG, "rope_theta")),
        "A newer version saved the base of the rotary embedding in another place, which an older one dropped without "
        "writing its own (vllm-project/vllm#42624)",
        ("rope_theta", "rope"),
    ),
    Case(
        "scales_of_awq_in_the_norms_only",
        alone_4_5(on_tensors(_smooth_norms_only), with_base=True),
        "AWQ moves a scale of each channel from the norm into the projections; unquantized projections were put back "
        "beside norms that are already divided (mlx-node/mlx-node#87)",
        ("post_attention_layernorm", "norm.weight", "norms"),
    ),
    Case(
        "adapter_merged_into_its_own_merge",
        said_to_merge_4_5(all_of(MERGE, merging(OFFICIAL), merging(OFFICIAL))),
        "Training scripts exported over the folder that the adapter names as its base, so that each run merged it once "
        "more",
        ("merge", "adapter", "scale", "lora"),
    ),
    Case(
        "merger_that_only_puts_the_adapter_beside",
        said_to_merge_4_5(_adapter_beside),
        "The command that is called merge writes the base's weights and lays the adapter in a folder beside them, so "
        "that the merge answers as the base does (verl-project/verl#7285)",
        ("merge", "adapter", "lora"),
    ),
    Case(
        "compatibility_forms_folded",
        alone_4_5(tokenizer_part("normalizer", {"type": "NFKC"}), with_base=True),
        "Conversion through SentencePiece brought its NFKC normalizer along, and Chinese punctuation reaches the model "
        "as another (google/sentencepiece#789)",
        ("normalizer", "NFKC", "NFC"),
    ),
    Case(
        "prompts_end_with_the_end_of_a_turn",
        alone_4_5(on_json(TOKENIZER, _end_prompts)),
        "The tokenizer was saved with its end token added to every text, for training; each prompt is closed before "
        "the model may answer",
        ("<|im_end|>", "post_processor", "eos"),
    ),
)
