"""Broken models of 4.6 of the eighth wave whose weights another version or tool wrote."""

from pathlib import Path

import torch

from benchmarks.unseen.case import Case
from benchmarks.unseen.fourth_editing import CONFIG, on_tensor
from benchmarks.unseen.third_4_6_editing import (
    BASE,
    EMBEDDINGS,
    HEAD,
    LANGUAGE_LAYERS,
    Edit,
    Tensors,
    all_of,
    alone,
    on_tensors,
    renamed,
    said_to_merge,
    setting,
    sharded,
    without_tensors,
)

QUERY = LANGUAGE_LAYERS + "3.self_attn.q_proj.weight"
ONE_CENTRED = ("input_layernorm", "post_attention_layernorm", "q_norm", "k_norm", "language_model.norm")
HEADS = 2
TOKENS = 761


def nested_language_model(name: str) -> str:
    """Name a tensor of the language model as `save_pretrained` did before 5.5.2."""
    return name.replace("model.language_model.", "model.language_model.language_model.language_model.")


def visual_inside_language_model(name: str) -> str:
    """Name a tensor of the vision tower as `save_pretrained` did in 5.5.3."""
    return name.replace("model.vision_tower.", "model.language_model.vision_tower.")


def add_one_to_norms(tensors: Tensors) -> None:
    """Store the norms' scales whole, where the model expects how much they differ from one."""
    for name, tensor in tensors.items():
        if name.startswith("model.language_model.") and any(part in name for part in ONE_CENTRED):
            tensors[name] = (tensor.float() + 1).to(tensor.dtype)


def gates_after_queries(query: torch.Tensor) -> torch.Tensor:
    """Lay out all queries and then all gates, which the model expects by turns, head by head."""
    heads = query.view(HEADS, 2, -1, query.shape[1])
    return heads.transpose(0, 1).reshape(query.shape)


def nan_of_unused(tensors: Tensors) -> None:
    """Divide by zero where no model has a token: in the rows behind the last one."""
    for name in (EMBEDDINGS, HEAD):
        tensors[name][TOKENS:] = float("nan")


def scaled_to_fp8(tensors: Tensors) -> None:
    """Store the language model's projections in 8 bits of floating point, with a scale for each row."""
    for name in [name for name in tensors if name.startswith(LANGUAGE_LAYERS) and name.endswith("_proj.weight")]:
        whole = tensors[name].float()
        scale = whole.abs().amax(1, keepdim=True).clamp(min=1e-8) / 448
        tensors[name] = (whole / scale).to(torch.float8_e4m3fn)
        tensors[name + "_scale"] = scale.to(torch.bfloat16)


def pointer_for_shard(number: int, count: int) -> Edit:
    """Make an edit that leaves of one shard what git has without its large files."""
    file = f"model-{number:05d}-of-{count:05d}.safetensors"
    text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'4d7a' * 16}\nsize 4970110392\n"

    def edit(folder: Path) -> None:
        (folder / file).write_text(text, encoding="utf-8")

    return edit


CASES: tuple[Case, ...] = (
    Case(
        "language_model_nested_thrice",
        alone(renamed(nested_language_model), with_base=True),
        "Fully tuned and saved with a release of transformers 5 that repeated `language_model` in the names: none of "
        "the language model's tensors is found, it starts from random numbers (huggingface/transformers#45256).",
        ("language_model.language_model", "embed_tokens", "model.language_model", "missing", "unexpected"),
    ),
    Case(
        "vision_tower_saved_inside_language_model",
        alone(renamed(visual_inside_language_model)),
        "The next release repaired the language model's names and still wrote the vision tower's below it: pictures "
        "go through a random tower (huggingface/transformers#45357).",
        ("vision_tower", "language_model.vision_tower"),
    ),
    Case(
        "norms_stored_one_centred",
        alone(on_tensors(add_one_to_norms), with_base=True),
        "Converted to MLX and back: MLX keeps 1 + w for the norms of the Qwen3.5 layers, and nobody took the one off "
        "again, so that the model adds it twice (Blaizzy/mlx-vlm#1556).",
        ("norm", "layernorm"),
    ),
    Case(
        "gates_laid_out_after_queries",
        alone(on_tensor(QUERY, gates_after_queries), with_base=True),
        "A converter took q_proj for all queries and then all gates, while the checkpoint has them by turns, head by "
        "head: the full-attention layer attends with gates (llmmanorg/llmman#16).",
        ("q_proj", "self_attn", "layers.3"),
    ),
    Case(
        "head_lost_to_tying",
        alone(
            all_of(
                without_tensors(HEAD),
                setting(CONFIG, "tie_word_embeddings", True),
                setting(CONFIG, "text_config.tie_word_embeddings", True),
            ),
            with_base=True,
        ),
        "Tuned with new rows of its own in the head, merged, and saved with tie_word_embeddings still true: the head "
        "is not written and the embeddings stand in for it (huggingface/transformers#45127).",
        ("tie_word_embeddings", "lm_head", "tied"),
    ),
    Case(
        "merge_of_tokenizers_left_nan_rows",
        alone(on_tensors(nan_of_unused)),
        "mergekit averaged rows of tokens that no model has and divided by nothing: rows without a token are NaN, and "
        "NaN wins every comparison of logits (arcee-ai/mergekit#73).",
        ("nan", "lm_head", "embed_tokens", "finite"),
    ),
    Case(
        "fp8_without_quantization_config",
        alone(on_tensors(scaled_to_fp8)),
        "Quantised to 8-bit floats with scales, and config.json copied from the tuned model over the compressed "
        "one's: the scales are ignored and weights are read far too large (vllm-project/llm-compressor#2842).",
        ("scale", "fp8", "float8", "f8_e4m3", "quantization"),
    ),
    Case(
        "merged_save_kept_the_base",
        said_to_merge(lambda _: None, source=BASE),
        "Unsloth's save for vLLM wrote the base's weights without the adapter for vision models: the merge answers as "
        "the base does (unslothai/unsloth#1352).",
        ("adapter", "lora", "update", "unchanged"),
    ),
    Case(
        "shard_is_a_pointer",
        alone(all_of(sharded(3), pointer_for_shard(2, 3))),
        "Cloned without git-lfs, one shard copied later by hand: another is still a pointer of 130 bytes "
        "(vllm-project/vllm#57975).",
        ("model-00002-of-00003", "lfs", "pointer", "header"),
    ),
)
