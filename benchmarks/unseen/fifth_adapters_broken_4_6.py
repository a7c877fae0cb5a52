"""Broken adapters over the demo of MiniCPM-V 4.6: lost on the way, half lost, or wrong."""

import shutil
from pathlib import Path

import torch

from benchmarks.unseen.case import Case
from benchmarks.unseen.fifth_adapters_editing import (
    RANK,
    adapter_file,
    scaled_in,
    split_in_proj,
    to_dora,
    to_pissa,
    with_settings,
)
from benchmarks.unseen.fourth_editing import ADAPTER_CONFIG, TEMPLATE, writing
from benchmarks.unseen.third_4_6_editing import (
    Tensors,
    adapted,
    all_of,
    mapped,
    on_tensors,
    read_lora,
    renamed,
    setting,
    without_tensors,
    write_json,
)

_CHATML = """\
{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + (message['content'] | string) }}\
{{ '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""


def _to_mlx(adapter: Path) -> None:
    tensors = read_lora(adapter)
    names = {"lora_A.weight": "lora_a", "lora_B.weight": "lora_b"}
    turned: Tensors = {}
    for name, one in tensors.items():
        plain = name.removeprefix("base_model.model.")
        for old, new in names.items():
            plain = plain.replace(old, new)
        turned[plain] = one.T.contiguous()
    on_tensors(lambda _: turned)(adapter)
    shutil.move(adapter_file(adapter), adapter / "adapters.safetensors")
    write_json(
        adapter / ADAPTER_CONFIG,
        {
            "fine_tune_type": "lora",
            "num_layers": 4,
            "lora_parameters": {"rank": RANK, "scale": 2.0, "dropout": 0.0},
            "model": "minicpm-demo",
        },
    )


def _doubled_scale(adapter: Path) -> None:
    scaled_in(adapter, 2.0)
    with_settings({"lora_alpha": RANK, "use_rslora": True})(adapter)


CASES = (
    Case(
        "prefix_of_a_compiled_model",
        adapted(renamed(lambda name: f"_orig_mod.{name}")),
        "The adapter was saved from within torch.compile, whose prefix every name has; PEFT matches none and leaves "
        "its own zeros, so the base answers. (MakazhanAlpamys/Soup#335)",
        ("_orig_mod", "prefix", "lora_A", "lora_B", "unexpected"),
    ),
    Case(
        "factors_empty_after_zero3",
        adapted(mapped(lambda one: one.new_zeros(0), "lora_")),
        "DeepSpeed's ZeRO-3 had the weights in pieces when they were saved, so that every factor has no element; PEFT "
        "cannot load them. (huggingface/peft#2500)",
        ("lora_A", "lora_B", "empty", "shape", "size"),
    ),
    Case(
        "second_factors_still_zero",
        adapted(mapped(torch.zeros_like, "lora_B")),
        "The optimizer of DeepSpeed never reached the adapter, whose second factors are still the zeros that they "
        "started with; the base answers. (huggingface/peft#1402)",
        ("lora_B", "zero", "no effect", "untrained"),
    ),
    Case(
        "trained_on_the_language_model_alone",
        adapted(renamed(lambda name: name.replace(".language_model.layers", ".layers"))),
        "Somebody trained the language model without the picture part around it, so that the names lack a level; "
        "nothing of the adapter arrives. (vllm-project/vllm#48019)",
        ("language_model", "layers.0", "lora_A", "unexpected", "missing"),
    ),
    Case(
        "still_in_the_layout_of_mlx",
        adapted(_to_mlx),
        "The adapter comes from MLX, with its own settings, file name and factors turned; PEFT finds neither its kind "
        "nor its weights. (ml-explore/mlx-lm#1119)",
        ("peft_type", "adapter_model", "adapters.safetensors", "mlx", "lora_parameters"),
    ),
    Case(
        "rslora_flag_kept_by_a_combination",
        adapted(_doubled_scale),
        "PEFT combined adapters with the scale worked into the factors, but copied use_rslora, so that it scales once "
        "more by the root of the rank; answers are garbage. (huggingface/peft#3473)",
        ("use_rslora", "rslora", "scal", "lora_alpha"),
    ),
    Case(
        "rank_pattern_with_an_anchor",
        adapted(
            all_of(
                mapped(lambda one: torch.cat([one, torch.zeros_like(one)]), "gate_proj.lora_A"),
                mapped(lambda one: torch.cat([one, torch.zeros_like(one)], dim=1), "gate_proj.lora_B"),
                with_settings({"rank_pattern": {"^gate_proj": 16}, "alpha_pattern": {"^gate_proj": 32}}),
            )
        ),
        "A rank of its own for gate_proj is written with an anchor, which matches no module, so that PEFT builds "
        "the common rank and cannot load. (huggingface/peft#3582)",
        ("gate_proj", "rank_pattern", "size", "shape", "lora_A"),
    ),
    Case(
        "whole_modules_promised_and_missing",
        adapted(without_tensors("merger."), "official"),
        "The official script's first version kept no trained picture part, although modules_to_save names it; PEFT "
        "misses the promised module and cannot load. (OpenBMB/MiniCPM-V#222)",
        ("merger", "modules_to_save", "missing", "linear_1"),
    ),
    Case(
        "rows_of_the_head_not_listed",
        adapted(setting(ADAPTER_CONFIG, "trainable_token_indices", [761, 762, 763, 764, 765, 766]), "tokens"),
        "The new tokens are listed without saying for which matrices, which means the embeddings only; the trained "
        "rows of the head are in the file and unused, so the tokens are never written. (huggingface/peft#2863)",
        ("lm_head", "trainable_token", "token_adapter", "761"),
    ),
    Case(
        "pissa_without_its_residual",
        adapted(to_pissa),
        "Trained with PiSSA, the adapter holds the base's greatest components, which its own residual base lacks; "
        "over the real base they count twice, and answers are garbage. (huggingface/peft#1626)",
        ("pissa", "residual", "twice", "larger", "update"),
    ),
    Case(
        "layers_to_transform_left_over",
        adapted(setting(ADAPTER_CONFIG, "layers_to_transform", [0])),
        "From an earlier experiment the settings still say that layer 0 alone is adapted; the trained factors of "
        "the others are in the file and unused, so answers are mostly the base's.",
        ("layers_to_transform", "layers.1", "layers.2", "layers.3", "unexpected"),
    ),
    Case(
        "invocation_tokens_never_written",
        adapted(setting(ADAPTER_CONFIG, "alora_invocation_tokens", [9, 9, 9, 9])),
        "An activated LoRA works only after its invocation tokens; these are no part of any prompt that the chat "
        "template writes, so it stays off. (huggingface/peft#3003)",
        ("alora", "invocation", "no effect", "never"),
    ),
    Case(
        "template_for_text_alone",
        adapted(writing(TEMPLATE, _CHATML), "tokens"),
        "A trainer put its plain ChatML template into the folder; pictures become the text of a Python object, with "
        "no place for their features, and the processor refuses.",
        ("template", "image_pad", "picture", "placeholder"),
    ),
    Case(
        "dora_magnitudes_as_a_column",
        adapted(all_of(to_dora, mapped(lambda one: one[:, None], "magnitude"))),
        "A converter from another trainer's DoRA left the magnitudes as matrices of one column, where PEFT has "
        "vectors; the adapter cannot be loaded.",
        ("magnitude", "dora", "size", "shape"),
    ),
    Case(
        "linear_attention_in_three",
        adapted(on_tensors(split_in_proj), "tokens"),
        "The trainer has queries, keys and values of linear attention apart, and exports them so; the checkpoint has "
        "one matrix for them, whose factors are missing. (thinking-machines-lab/tinker-cookbook#525)",
        ("in_proj_q", "in_proj_k", "unexpected", "missing"),
    ),
)
