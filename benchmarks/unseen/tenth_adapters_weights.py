"""Adapters of 4.6 whose weights are lost, misnamed, or other than what was trained."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from benchmarks.unseen.case import Case
from benchmarks.unseen.fourth_editing import ADAPTER_CONFIG, on_tensor, writing
from benchmarks.unseen.tenth_adapters_editing import (
    PREFIX,
    config,
    folded,
    fresh_magnitude,
    on_factors,
    saved_with,
    with_magnitudes,
)
from benchmarks.unseen.third_4_6_editing import (
    ADAPTER_WEIGHTS,
    BASE,
    HEAD,
    MODEL_WEIGHTS,
    adapted,
    all_of,
    on_tensors,
    renamed,
    setting,
    without_files,
    without_tensors,
    write_json,
)

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'3f6c1d9a' * 8}\nsize 1846592\n"


def as_mlx(folder: Path) -> None:
    """Write an adapter as mlx-lm does."""
    tensors = {
        name.removeprefix(PREFIX)
        .replace(".lora_A.weight", ".lora_a")
        .replace(".lora_B.weight", ".lora_b"): one.T.contiguous()
        for name, one in load_file(folder / ADAPTER_WEIGHTS).items()
    }
    save_file(tensors, folder / "adapters.safetensors")
    (folder / ADAPTER_WEIGHTS).unlink()
    parameters = {"rank": 8, "scale": 2.0, "dropout": 0.0}
    write_json(
        folder / ADAPTER_CONFIG,
        {"fine_tune_type": "lora", "num_layers": 4, "lora_parameters": parameters, "model": "minicpm-demo"},
    )


def with_principal_part(name: str, first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return factors of rank 16 that hold the largest part of the base's weight too, as PiSSA trains them."""
    weight = load_file(BASE / MODEL_WEIGHTS)[name].float()
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    rank = 16 - len(first)
    roots = values[:rank].sqrt()
    tops, rights = (left[:, :rank] * roots), roots[:, None] * right[:rank]
    missing = rank - len(roots)
    tops = torch.nn.functional.pad(tops, (0, missing))
    rights = torch.nn.functional.pad(rights, (0, 0, 0, missing))
    both = torch.cat([first.float(), rights]), torch.cat([2.0 * second.float(), tops], dim=1)
    return both[0].to(first.dtype), both[1].to(second.dtype)


CASES: tuple[Case, ...] = (
    Case(
        "names_of_the_text_only_model",
        adapted(renamed(lambda name: name.replace(".language_model.", "."))),
        "Trained on the language model loaded by itself, whose layers have no `language_model` in their names; over "
        "the multimodal model no tensor finds its module and the base answers (vllm-project/vllm#48019).",
        ("lora_A", "lora_B", "unexpected", "no module", "language_model", "layers.0"),
    ),
    Case(
        "names_of_the_compiled_model",
        adapted(renamed(lambda name: "_orig_mod." + name)),
        "Saved from a model that torch.compile had wrapped, so that each name starts with `_orig_mod.`; PEFT matches "
        "none of them and the adapter does nothing (MakazhanAlpamys/Soup#335).",
        ("_orig_mod", "lora_A", "lora_B", "unexpected"),
    ),
    Case(
        "names_with_the_name_of_the_adapter",
        adapted(renamed(lambda name: name.replace(".weight", ".default_0.weight"))),
        "Written from the raw state dict, whose names hold the adapter's own name `default_0`; on loading, every key "
        "is missing and the adapter does nothing (huggingface/diffusers#9622).",
        ("default_0", "lora_A", "lora_B", "unexpected"),
    ),
    Case(
        "file_of_forty_bytes",
        adapted(on_tensors(lambda _: {})),
        "TRL's trainer under DeepSpeed ZeRO-3 wrote an adapter file with no tensors in it; the base answers "
        "(huggingface/trl#4416).",
        ("no tensor", "empty", "lora_A", "lora_B", "adapter_model", "missing"),
    ),
    Case(
        "no_weights_after_zero_3",
        adapted(without_files(ADAPTER_WEIGHTS)),
        "Training with ZeRO-3 left the adapter's config but no weight file, so that nothing can be loaded "
        "(hiyouga/LlamaFactory#2343).",
        ("adapter_model", "weight file", "no weights", "safetensors"),
    ),
    Case(
        "no_config_of_the_adapter",
        adapted(without_files(ADAPTER_CONFIG)),
        "The folder has the adapter's weights but no adapter_config.json, without which PEFT loads nothing "
        "(tloen/alpaca-lora#503).",
        ("adapter_config",),
    ),
    Case(
        "pointer_in_place_of_the_weights",
        adapted(writing(ADAPTER_WEIGHTS, POINTER)),
        "Cloned without git-lfs: the weight file is a pointer of three lines, and reading it fails with "
        "HeaderTooLarge (haofanwang/Lora-for-Diffusers#3).",
        ("lfs", "pointer", "adapter_model", "header"),
    ),
    Case(
        "layout_of_mlx",
        adapted(as_mlx),
        "Trained with mlx-lm, whose folder has `adapters.safetensors`, factors in small letters and a config without "
        "`peft_type`; PEFT cannot load it (ml-explore/mlx-lm#1119).",
        ("adapters.safetensors", "peft_type", "mlx", "adapter_model", "lora_a"),
    ),
    Case(
        "factors_not_transposed",
        adapted(on_factors(lambda _, first, second: (first.T, second.T))),
        "Converted from mlx with the names changed but the factors left as mlx has them, each transposed; the shapes "
        "do not fit the modules (osaurus-ai/vmlx-swift#320).",
        ("transpos", "shape", "size", "lora_A", "lora_B", "rank"),
    ),
    Case(
        "new_tokens_without_their_rows",
        adapted(
            all_of(without_tensors("trainable_tokens_delta"), setting(ADAPTER_CONFIG, "trainable_token_indices", None)),
            "tokens",
        ),
        "Tokens were added before training and the tokenizer saved with the adapter, but not the embeddings trained "
        "for them; the model cannot write them (unslothai/unsloth#1343).",
        ("<fig>", "<col>", "<pos>", "761", "embed_tokens", "added token"),
    ),
    Case(
        "saved_head_of_another_size",
        adapted(
            all_of(
                saved_with("json", HEAD),
                on_tensor(PREFIX + HEAD, lambda head: head[:761]),
                config(modules_to_save=["lm_head"]),
            )
        ),
        "The head was saved by an environment that had resized it to the tokenizer's length, fewer rows than the "
        "base has; loading stops at a size mismatch (QwenLM/Qwen-VL#415).",
        ("lm_head", "size mismatch", "shape", "761", "832"),
    ),
    Case(
        "pissa_factors_under_a_plain_config",
        adapted(all_of(on_factors(with_principal_part), config(r=16, lora_alpha=16))),
        "Trained with PiSSA and taken from the checkpoint, not from the converted folder: the factors hold the base's "
        "principal part, which is added once more to the whole weights (hiyouga/LlamaFactory#6171).",
        ("lora_A", "lora_B", "pissa", "init_lora_weights", "principal", "too large"),
    ),
    Case(
        "dora_magnitudes_of_fresh_layers",
        adapted(with_magnitudes(fresh_magnitude)),
        "A DoRA layer took its magnitudes from the random layer it was built with and not from the one it adapts, so "
        "that each row is scaled to the wrong norm (ml-explore/mlx-examples#832).",
        ("magnitude", "dora", "norm"),
    ),
    Case(
        "combined_under_rslora",
        adapted(all_of(folded(2.0), config(use_rslora=True, lora_alpha=8))),
        "Adapters of rank-stabilised LoRA were combined with PEFT, which folds the scale into the factors but left "
        "`use_rslora` on, so that all is sqrt(r) times too large (huggingface/peft#3449).",
        ("rslora", "scal", "lora_alpha", "too large"),
    ),
    Case(
        "targets_named_base_layer",
        adapted(
            all_of(
                renamed(lambda name: name.replace(".lora_", ".base_layer.lora_")), config(target_modules=["base_layer"])
            )
        ),
        "The targets were looked for in a model that had an adapter on it already, so that they are all called "
        "`base_layer`, which no fresh base has (minghaochen/chatglm3-base-tuning#11).",
        ("base_layer", "target_modules", "target modules"),
    ),
    Case(
        "end_of_turn_never_learnt",
        adapted(
            all_of(
                saved_with("json", HEAD),
                on_tensor(PREFIX + HEAD, lambda head: head.index_fill(0, torch.tensor([750]), 0)),
                config(modules_to_save=["lm_head"]),
            )
        ),
        "The end token was also the padding and left out of the loss, so that the trained head no longer writes it "
        "and answers run on (mlabonne/llm-course#33).",
        ("<|im_end|>", "750", "lm_head", "never stop", "does not end", "stop"),
    ),
)
