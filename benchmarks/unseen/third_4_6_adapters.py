"""Broken adapters on the demo's base."""

from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.unseen.case import Case
from benchmarks.unseen.third_4_6_editing import (
    ADAPTER_WEIGHTS,
    BASE,
    DEMO,
    EMBEDDINGS,
    HEAD,
    Edit,
    adapted,
    all_of,
    mapped,
    read_tensors,
    renamed,
    setting,
    taking,
    without_tensors,
    write_rows,
    write_tensors,
)

CONFIG = "adapter_config.json"
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]


def save_whole(matrices: Sequence[str], rows: int = 832) -> Edit:
    """Save whole matrices instead of the trained rows, as `modules_to_save` does."""

    def edit(folder: Path) -> None:
        trained = read_tensors(BASE)
        write_rows(trained)
        tensors = {name: tensor for name, tensor in read_tensors(folder).items() if "token_adapter" not in name}
        for name in matrices:
            tensors[f"base_model.model.{name}"] = trained[name][:rows]
        write_tensors(folder, tensors)
        setting(CONFIG, "trainable_token_indices", None)(folder)
        setting(CONFIG, "modules_to_save", [name.split(".")[-2] for name in matrices])(folder)

    return edit


def _number_from_one(name: str) -> str:
    for layer in (3, 2, 1, 0):
        name = name.replace(f".layers.{layer}.", f".layers.{layer + 1}.")
    return name


def _zero(tensor: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(tensor)


CASES = (
    Case(
        "saved_before_training",
        adapted(mapped(_zero, "lora_B")),
        "The folder is that of step 0: every lora_B is zero, and the adapter does nothing. 0 of 36 right instead of "
        "36.",
        ("lora_B", "no effect", "untrained"),
    ),
    Case(
        "hardly_trained",
        adapted(mapped(lambda tensor: tensor * 1e-3, "lora_B")),
        "A learning rate of 1e-6 over a short run: the factors have hardly left zero. 0 of 36 right instead of 36.",
        ("lora_B", "effect", "hardly", "barely"),
    ),
    Case(
        "names_of_an_older_transformers",
        adapted(renamed(lambda name: name.replace("model.model.language_model.", "model.language_model.model."))),
        "Trained where the language model was called language_model.model: no tensor finds its module. 0 of 36 right "
        "instead of 36.",
        ("language_model.model", "lora_A", "lora_B"),
    ),
    Case(
        "feed_forward_lost",
        adapted(without_tensors(".mlp.")),
        "A script that shrinks adapters dropped the factors of the feed-forward layers, which the config still "
        "targets: 11 of 36 right instead of 36.",
        (".mlp.", "gate_proj", "up_proj", "down_proj"),
    ),
    Case(
        "layers_counted_from_one",
        adapted(renamed(_number_from_one)),
        "A conversion counts layers from one: each layer has its neighbour's factors or none, and the "
        "last ones have no module: 0 of 36 right instead of 36.",
        ("layers.4", "layers.0"),
    ),
    Case(
        "rank_of_another_run",
        adapted(setting(CONFIG, "r", 16)),
        "adapter_config.json is that of another run, with rank 16 for factors of rank 8: it cannot be loaded.",
        ("rank", "lora_A"),
    ),
    Case(
        "targets_attention_only",
        adapted(setting(CONFIG, "target_modules", ATTENTION)),
        "target_modules was set back to the attention's: the file's other factors are dropped in silence. 10 of 36 "
        "right instead of 36.",
        ("target_modules", "mlp", "linear_attn", "gate_proj", "in_proj"),
    ),
    Case(
        "one_layer_transformed",
        adapted(all_of(setting(CONFIG, "layers_to_transform", [3]), setting(CONFIG, "layers_pattern", "layers"))),
        "layers_to_transform was left in from an ablation: the factors of three layers are dropped in silence. 19 of "
        "36 right instead of 36.",
        ("layers_to_transform", "layers.0", "layers.1", "layers.2"),
    ),
    Case(
        "alpha_of_zero",
        adapted(setting(CONFIG, "lora_alpha", 0)),
        "lora_alpha was set to 0 to compare with the base, and left so: 0 of 36 right instead of 36.",
        ("lora_alpha",),
    ),
    Case(
        "adapter_of_another_release",
        adapted(
            all_of(
                *(taking(file, DEMO / "minicpmv4_5" / "adapters" / "official") for file in (CONFIG, ADAPTER_WEIGHTS))
            ),
            "official",
        ),
        "An adapter of MiniCPM-V 4.5 under the same name, whose modules this model does not have: it cannot be loaded.",
        ("target_modules", "llm.", "resampler"),
    ),
    Case(
        "matrices_shrunk_to_the_tokenizer",
        adapted(save_whole((EMBEDDINGS, HEAD), rows=767), "tokens"),
        "The trainer resized both matrices to the tokenizer's length, below the base's padded one, and saved them "
        "whole: they do not fit the base.",
        ("767", "embed_tokens", "lm_head"),
    ),
    Case(
        "head_not_saved",
        adapted(save_whole((EMBEDDINGS,)), "tokens"),
        "modules_to_save names the embeddings and not the head, whose rows of the new tokens stay untrained: the "
        "model cannot write them. 0 of 36 right instead of 36.",
        ("lm_head", "<fig>", "</pos>", "761"),
    ),
)
