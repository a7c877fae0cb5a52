"""Merges of adapters, broken and harmless, over both generations of the demo."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from benchmarks.unseen.case import Bundle, Case
from benchmarks.unseen.fourth_editing import (
    ADAPTER_CONFIG,
    ADAPTERS_4_5,
    CONFIG,
    TOKENIZER,
    TOKENIZER_CONFIG,
    mean_row,
    saved_modules,
)
from benchmarks.unseen.seventh_adapters_editing import merge_45, merge_46, whole_merge_45
from benchmarks.unseen.third_4_6_editing import (
    ADAPTER_WEIGHTS,
    ADAPTERS,
    BASE,
    HEAD,
    Tensors,
    all_of,
    copied,
    deltas,
    merge_into,
    on_json,
    read_json,
    read_tensors,
    renamed,
    said_to_merge,
    setting,
    sharded,
    taking,
    target_of,
    without_tensors,
    write_json,
    write_tensors,
)

OFFICIAL = ADAPTERS_4_5 / "official"


def _rslora_adapter(folder: Path) -> None:
    def change(config: dict[str, float]) -> None:
        config.update(use_rslora=True, lora_alpha=config["lora_alpha"] / config["r"] ** 0.5)

    on_json(ADAPTER_CONFIG, change)(folder)


def _plain_scale(tensors: Tensors) -> None:
    config = read_json(ADAPTERS / "json" / ADAPTER_CONFIG)
    merge_into(tensors, deltas(), config["r"] ** -0.5)


def _thinned(tensors: Tensors) -> None:
    """Keep a quarter of each update at random, and do not enlarge it."""
    generator = torch.Generator().manual_seed(26)
    kept = {name: one * (torch.rand(one.shape, generator=generator) < 0.25) for name, one in deltas().items()}
    merge_into(tensors, kept)


def _attention_only(tensors: Tensors) -> None:
    merge_into(tensors, {name: one for name, one in deltas().items() if ".mlp." not in name})


def _in_eight_bits(tensors: Tensors) -> None:
    """Round each row to 8 bits, add the updates, and round to the type that they had."""
    for name, update in deltas().items():
        weight = tensors[name].float()
        step = weight.abs().amax(1, keepdim=True).clamp(min=1e-9) / 127
        tensors[name] = ((weight / step).round() * step + update).to(tensors[name].dtype)


def _no_change(tensors: Tensors) -> None:
    del tensors


def _wrapped(name: str) -> str:
    targets = {one.removesuffix(".weight") for one in deltas()}
    module, _, kind = name.rpartition(".")
    return f"{module}.base_layer.{kind}" if module in targets else name


def _tokens_without_rows(parent: Path) -> Bundle:
    model, adapter = copied(BASE, parent, "tuned-tokens"), ADAPTERS / "tokens"
    tensors = read_tensors(model)
    merge_into(tensors, deltas(adapter))
    write_tensors(model, tensors)
    for file in (TOKENIZER, TOKENIZER_CONFIG):
        taking(file, adapter)(model)
    return Bundle(model, merged_from=(BASE, adapter))


def _wrongly_split(tensors: Tensors) -> None:
    """Take updates of queries, keys and values for ones that lie group by group, and cut them as if in a row."""
    added = deltas(OFFICIAL)
    for name in [one for one in added if "q_proj" in one]:
        names = [name, name.replace("q_proj", "k_proj"), name.replace("q_proj", "v_proj")]
        heads = [added[one].reshape(-1, 64, added[one].shape[1]) for one in names]
        grouped = []
        for group in range(len(heads[1])):
            grouped += [heads[0][2 * group], heads[0][2 * group + 1], heads[1][group], heads[2][group]]
        rows = torch.cat(grouped)
        for one, part in zip(names, torch.split(rows, [len(added[one]) for one in names]), strict=True):
            added[one] = part
    whole_merge_45(tensors, added, saved_modules(OFFICIAL))


def _factors_only(tensors: Tensors) -> None:
    merge_into(tensors, deltas(OFFICIAL))


def _sound_45(tensors: Tensors) -> None:
    whole_merge_45(tensors, deltas(OFFICIAL), saved_modules(OFFICIAL))


def _in_float32(tensors: Tensors) -> None:
    for name, one in tensors.items():
        tensors[name] = one.float()
    _sound_45(tensors)


def _in_bfloat16(tensors: Tensors) -> None:
    """Multiply and add in bfloat16, as PEFT does with a model in bfloat16."""
    config, factors = read_json(ADAPTERS / "json" / ADAPTER_CONFIG), load_file(ADAPTERS / "json" / ADAPTER_WEIGHTS)
    for name in [one for one in factors if "lora_A" in one]:
        update = factors[name.replace("lora_A", "lora_B")] @ factors[name] * (config["lora_alpha"] / config["r"])
        tensors[target_of(name)] += update


def _more_rows(folder: Path) -> None:
    tensors = read_tensors(folder)
    for name in ("llm.lm_head.weight", "llm.model.embed_tokens.weight"):
        old = tensors[name]
        tensors[name] = torch.cat([old, mean_row(old).expand(832 - len(old), -1)])
    write_tensors(folder, tensors)
    setting(CONFIG, "vocab_size", 832)(folder)


def _tied(folder: Path) -> None:
    without_tensors(HEAD)(folder)
    config = read_json(folder / CONFIG)
    config["tie_word_embeddings"] = config["text_config"]["tie_word_embeddings"] = True
    write_json(folder / CONFIG, config)


BROKEN: tuple[Case, ...] = (
    Case(
        "merge_ignores_rank_stabilised_scale",
        merge_46(_plain_scale, _rslora_adapter),
        "The tool that merged divides alpha by the rank whatever `use_rslora` says: a third of each update is in "
        "(NVIDIA/TensorRT-LLM#1668).",
        ("use_rslora", "rslora", "scale", "factor", "lora_alpha", "0.35"),
    ),
    Case(
        "merge_thinned_without_rescaling",
        merge_46(_thinned),
        "Somebody who merges for fun kept a quarter of each update at random and forgot to enlarge what was left "
        "(arcee-ai/mergekit#26).",
        ("density", "fraction", "part of", "sparse", "update", "delta"),
    ),
    Case(
        "merge_of_attention_only",
        merge_46(_attention_only),
        "The merging script knows the names of attention and not those of the feed-forward layers; their updates are "
        "left out without a word (linhduongtuan/BLOOM-LORA#8).",
        ("mlp", "gate_proj", "up_proj", "down_proj"),
    ),
    Case(
        "merge_that_merged_nothing",
        merge_46(_no_change),
        "The merger of an RL framework took the base's weights out of the checkpoint and left the factors behind: the "
        "folder is the base again (verl-project/verl#4553).",
        ("unchanged", "nothing", "identical", "none of", "no update", "same as the base"),
    ),
    Case(
        "merged_names_of_the_wrapper",
        said_to_merge(renamed(_wrapped)),
        "Exported from a wrapped model by a generic script: tuned weights are called `base_layer`, the loader does "
        "not find them and starts them at random (huggingface/peft#2647).",
        ("base_layer",),
    ),
    Case(
        "merged_as_tied",
        said_to_merge(_tied),
        "The export says that embeddings are tied and leaves out the head, which was a matrix of its own in base and "
        "tuned model (huggingface/transformers#45127).",
        ("tie_word_embeddings", "lm_head"),
    ),
    Case(
        "merged_tokens_without_their_rows",
        _tokens_without_rows,
        "Factors were merged and the tokenizer with its new tokens copied, but the trained rows of these tokens were "
        "not written: the model cannot say what it was taught (unslothai/unsloth#3428).",
        ("embed_tokens", "lm_head", "row", "<fig>", "trainable_token"),
    ),
    Case(
        "merge_4_5_with_wrongly_cut_attention",
        merge_45(_wrongly_split),
        "A converter from Megatron cut fused updates in a row, where they lie group by group: heads of queries, keys "
        "and values are mixed up (NVIDIA-NeMo/Megatron-Bridge#1818).",
        ("q_proj", "k_proj", "v_proj", "self_attn"),
    ),
    Case(
        "merge_4_5_without_saved_modules",
        merge_45(_factors_only),
        "The merging tool adds factors and ignores `modules_to_save`: vision tower, resampler and embeddings are the "
        "base's (unslothai/unsloth-zoo#369).",
        ("resampler", "vpm", "embed_tokens", "modules_to_save"),
    ),
)

HARMLESS: tuple[Case, ...] = (
    Case(
        "merge_4_5_in_float32",
        merge_45(_in_float32, setting(CONFIG, "torch_dtype", "float32")),
        "Merged and saved in float32, to lose nothing: the folder is twice as large and answers the same.",
    ),
    Case(
        "merge_4_5_with_more_rows_in_shards",
        merge_45(_sound_45, all_of(_more_rows, sharded(3))),
        "The vocabulary was padded to a multiple of 64 and the file split in three; no token has the new rows.",
    ),
    Case(
        "merge_computed_in_bfloat16",
        merge_46(_in_bfloat16),
        "Merged in bfloat16, as `merge_and_unload` does on a model loaded so; weights differ in their last bits "
        "(huggingface/peft#1035).",
    ),
    Case(
        "merge_over_an_eight_bit_base",
        merge_46(_in_eight_bits),
        "The base was loaded in 8 bits for merging, and PEFT warned of rounding: weights are a two-hundredth off, and "
        "answers are not (huggingface/peft#2321).",
    ),
)
