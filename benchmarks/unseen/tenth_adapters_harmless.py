"""Sound adapters of 4.6 that people worry about."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from benchmarks.unseen.case import Bundle, Case
from benchmarks.unseen.fourth_editing import TOKENIZER_CONFIG, keeping_settings
from benchmarks.unseen.tenth_adapters_editing import (
    JSON,
    PREFIX,
    config,
    folded,
    saved_with,
    widened,
    with_magnitudes,
)
from benchmarks.unseen.third_4_6_editing import (
    BASE,
    EMBEDDINGS,
    HEAD,
    MODEL_WEIGHTS,
    Tensors,
    adapted,
    all_of,
    copied,
    on_json,
    on_tensors,
    read_json,
    write_json,
)

TARGETS_BY_PLACE = (
    "linear_attn.in_proj_a", "linear_attn.in_proj_b", "linear_attn.in_proj_qkv", "linear_attn.in_proj_z",
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
    "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
)  # fmt: skip
UNSLOTH_TARGETS = (
    r"(?:.*?(?:language|text).*?(?:self_attn|attention|attn|mlp|feed_forward|ffn|dense).*?"
    r"(?:in_proj_a|in_proj_b|in_proj_qkv|in_proj_z|q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj).*?)"
    r"|(?:\bmodel\.layers\.[\d]{1,}\.(?:self_attn|attention|mlp)\.(?:(?:q_proj|k_proj)))"
)
SEEING = ("q_proj", "k_proj", "v_proj")


def with_untrained_tower(tensors: Tensors) -> None:
    """Add factors for the vision tower as training starts them: `lora_B` is zero."""
    generator = torch.Generator().manual_seed(11)
    for name, weight in load_file(BASE / MODEL_WEIGHTS).items():
        if ".vision_tower." in name and name.endswith(tuple(f"{kind}.weight" for kind in SEEING)):
            place = PREFIX + name.removesuffix("weight")
            first = torch.randn(8, weight.shape[1], generator=generator) * 0.05
            tensors[place + "lora_A.weight"] = first.to(torch.bfloat16)
            tensors[place + "lora_B.weight"] = torch.zeros(len(weight), 8, dtype=torch.bfloat16)


def twice(parent: Path) -> Bundle:
    """Give one adapter under two names."""
    one, other = copied(JSON, parent), copied(JSON, parent, "copy")
    return Bundle(BASE, {"json": one, "copy": other})


def with_old_merges(folder: Path) -> None:
    """Write the merges of tokenizer.json as older versions did, each pair as one string."""
    content = read_json(folder / "tokenizer.json")
    pairs = content["model"]["merges"]
    content["model"]["merges"] = [pair if isinstance(pair, str) else " ".join(pair) for pair in pairs]
    write_json(folder / "tokenizer.json", content)


def with_added_tokens(folder: Path) -> None:
    """Write the added tokens of the base into a file of their own."""
    added = read_json(BASE / "tokenizer.json")["added_tokens"]
    write_json(folder / "added_tokens.json", {one["content"]: one["id"] for one in added})


def with_list_of_names(folder: Path) -> None:
    """Write `extra_special_tokens` as a list, without the names."""

    def change(content: dict[str, object]) -> None:
        names = content["extra_special_tokens"]
        content["extra_special_tokens"] = list(names.values()) if isinstance(names, dict) else names

    on_json(TOKENIZER_CONFIG, change)(folder)


CASES: tuple[Case, ...] = (
    Case(
        "settings_of_old_trainers",
        adapted(config(enable_lora=None, merge_weights=False)),
        "Settings that PEFT once had and has no more are in the config; loading warns of them and ignores them "
        "(hiyouga/LlamaFactory#5348).",
    ),
    Case(
        "factors_of_a_tower_that_was_frozen",
        adapted(all_of(on_tensors(with_untrained_tower), config(exclude_modules=None))),
        "The names of the targets matched the vision tower too, which was not trained: its `lora_B` is zero "
        "throughout (zjysteven/lmms-finetune#11).",
    ),
    Case(
        "adapter_as_large_as_the_model",
        adapted(all_of(saved_with("json", EMBEDDINGS, HEAD), config(modules_to_save=["embed_tokens", "lm_head"]))),
        "Embeddings and head are saved whole with the adapter, as they are in the base, which makes the file "
        "surprisingly large (unslothai/unsloth#1093).",
    ),
    Case(
        "no_name_of_the_base",
        adapted(config(base_model_name_or_path=None)),
        "`base_model_name_or_path` is null, which some servers stumble over; the base is given anyway "
        "(predibase/lorax#315).",
    ),
    Case(
        "path_of_the_base_elsewhere",
        adapted(config(base_model_name_or_path="/scratch/users/someone/MiniCPM-V-4_6")),
        "The base's path on another machine is in the config, and PEFT warns that it found no config there "
        "(huggingface/autotrain-advanced#508).",
    ),
    Case(
        "pattern_that_matches_nothing",
        adapted(config(alpha_pattern={"^q_proj": 100}, rank_pattern={"^model.layers.0.q_proj": 4})),
        "Patterns with an anchor never match a module, neither in training nor now, and change nothing "
        "(huggingface/peft#3582).",
    ),
    Case(
        "dora_with_norms_of_rows",
        adapted(with_magnitudes(lambda _, updated: updated.norm(dim=1))),
        "Somebody took the norms along the rows for the wrong ones; they are what PEFT computes by "
        "(huggingface/peft#2348).",
    ),
    Case(
        "targets_as_unsloth_writes_them",
        adapted(config(target_modules=UNSLOTH_TARGETS)),
        "Asked for the language layers only, Unsloth writes a long regular expression in place of names; it matches "
        "the same modules (unslothai/unsloth#1319).",
    ),
    Case(
        "targets_with_their_place",
        adapted(config(target_modules=list(TARGETS_BY_PLACE))),
        "Targets are named with the module around them, `mlp.gate_proj`, which a server refused and PEFT matches as "
        "well (sgl-project/sglang#11034).",
    ),
    Case(
        "same_adapter_under_two_names",
        twice,
        "One adapter is loaded twice under different names, which was reported as a defect and harms nothing "
        "(sgl-project/sglang#13771).",
    ),
    Case(
        "merges_as_strings",
        adapted(with_old_merges, "official"),
        "The merges of tokenizer.json are written as strings or as pairs, depending on the version; what reads both "
        "has no trouble (hiyouga/LlamaFactory#5749).",
    ),
    Case(
        "special_tokens_as_a_list",
        adapted(with_list_of_names, "official"),
        "transformers 5 writes `extra_special_tokens` as a list when the tokenizer is saved again, which version 4 "
        "could not read (ml-explore/mlx-lm#661).",
    ),
    Case(
        "file_of_added_tokens_that_the_base_has",
        adapted(with_added_tokens),
        "`added_tokens.json` was copied with the adapter and lists tokens that the base has anyway; a server counted "
        "them as new (sgl-project/sglang#17905).",
    ),
    Case(
        "scale_folded_into_the_factors",
        adapted(all_of(folded(2.0), config(lora_alpha=8))),
        "PEFT's combination of adapters writes the scale into the factors and sets alpha to the rank; of one adapter "
        "it makes the same (huggingface/peft#3111).",
    ),
    Case(
        "ranks_by_pattern",
        adapted(
            all_of(
                widened(16, (".mlp.",)),
                config(rank_pattern={r".*\.mlp\..*_proj": 16}, alpha_pattern={r".*\.mlp\..*_proj": 32}),
            )
        ),
        "Some modules have a rank and an alpha of their own by pattern, as axolotl now allows "
        "(axolotl-ai-cloud/axolotl#3673).",
    ),
    Case(
        "rslora_of_rank_16",
        adapted(all_of(widened(16), config(r=16, lora_alpha=8, use_rslora=True))),
        "Rank-stabilised LoRA divides alpha by the root of the rank; its alpha looks small for the rank and is right "
        "(huggingface/peft#2733).",
    ),
    Case(
        "settings_of_the_first_versions_only",
        adapted(
            keeping_settings(
                "base_model_name_or_path", "bias", "fan_in_fan_out", "inference_mode", "lora_alpha", "lora_dropout",
                "modules_to_save", "peft_type", "r", "target_modules", "task_type", "exclude_modules",
            )
        ),
        "Somebody removed `eva_config`, `lora_bias` and other new settings so that an older PEFT loads the adapter "
        "(huggingface/peft#2275).",
    ),
)  # fmt: skip
