"""Broken weights of the demo of 4.6: bases, fully tuned models and merges as people reported them."""

from pathlib import Path
from typing import Any

import torch

from benchmarks.unseen.case import Case
from benchmarks.unseen.fourth_editing import CONFIG, merging, on_tensor, writing
from benchmarks.unseen.third_4_6_editing import (
    ADAPTERS,
    BASE,
    EMBEDDINGS,
    HEAD,
    LANGUAGE_LAYERS,
    MERGED,
    MODEL_WEIGHTS,
    Tensors,
    all_of,
    alone,
    deltas,
    mapped,
    merge_into,
    on_json,
    on_tensors,
    read_lora,
    renamed,
    said_to_merge,
    setting,
    without_tensors,
)

END = 750
POSITIONS = "model.vision_tower.embeddings.position_embedding.weight"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "4f" * 32 + "\nsize 5496808\n"


def _nothing(_: Path) -> None:
    """Leave the folder as it is."""


def _merge_into_next_layer(tensors: Tensors) -> None:
    """Add what the adapter has for a layer to the next layer with such a module."""
    updates = deltas()
    moved = {}
    for name, update in updates.items():
        number, _, rest = name.removeprefix(LANGUAGE_LAYERS).partition(".")
        others = [f"{LANGUAGE_LAYERS}{(int(number) + step) % 4}.{rest}" for step in (1, 2, 3)]
        fitting = [other for other in others if other in tensors and tensors[other].shape == tensors[name].shape]
        moved[fitting[0] if fitting else name] = update
    merge_into(tensors, moved)


def _still_wrapped(tensors: Tensors) -> Tensors:
    """Name tensors as PEFT's wrapper does, and keep the factors beside the weights."""
    factors = {name.replace(".weight", ".default.weight"): one for name, one in read_lora(ADAPTERS / "json").items()}
    adapted = set(deltas())
    names = {name: name.removesuffix("weight") + "base_layer.weight" if name in adapted else name for name in tensors}
    return {f"base_model.model.{names[name]}": one for name, one in tensors.items()} | factors


def _fused_projections(tensors: Tensors) -> Tensors:
    """Join the four input projections of each linear attention into two."""
    fused = dict(tensors)
    for name in [name for name in tensors if name.endswith("linear_attn.in_proj_qkv.weight")]:
        start = name.removesuffix("qkv.weight")
        fused[f"{start}qkvz.weight"] = torch.cat([fused.pop(name), fused.pop(f"{start}z.weight")])
        fused[f"{start}ba.weight"] = torch.cat([fused.pop(f"{start}b.weight"), fused.pop(f"{start}a.weight")])
    return fused


def _without_third_layer(tensors: Tensors) -> Tensors:
    """Leave out the language model's third layer, and number the fourth one down."""
    kept = {name: one for name, one in tensors.items() if f"{LANGUAGE_LAYERS}2." not in name}
    return {name.replace(f"{LANGUAGE_LAYERS}3.", f"{LANGUAGE_LAYERS}2."): one for name, one in kept.items()}


def _one_layer_less(content: dict[str, Any]) -> None:
    del content["text_config"]["layer_types"][2]
    content["text_config"]["num_hidden_layers"] = 3


def _packed_four_bit(tensor: torch.Tensor) -> torch.Tensor:
    """Pack two values of a matrix in each byte, in one column, as bitsandbytes does."""
    scale = tensor.float().abs().max()
    codes = ((tensor.float() / scale + 1) * 7.5).round().to(torch.uint8).flatten()
    return (codes[::2] * 16 + codes[1::2]).unsqueeze(1)


def _unlearn_the_end(head: torch.Tensor) -> torch.Tensor:
    head[END] *= -0.5
    return head


def _tie(tensors: Tensors) -> None:
    tensors[HEAD] = tensors[EMBEDDINGS].clone()


def _with_one_added(tensors: Tensors) -> None:
    """Add one to the scales of the language model's norms, as converters to GGUF do."""
    ends = ("layernorm.weight", "q_norm.weight", "k_norm.weight", "language_model.norm.weight")
    for name in [name for name in tensors if "language_model" in name and name.endswith(ends)]:
        tensors[name] = (tensors[name].float() + 1).to(tensors[name].dtype)


CASES = (
    Case(
        "merge_folder_is_the_base",
        said_to_merge(_nothing, BASE),
        "The merger of a training framework wrote the base beside a folder lora_adapter and called it merged: weights "
        "are the base's byte for byte, and answers lack the tuned form (verl-project/verl#7285).",
        ("identical", "unchanged", "not merged", "lora", "adapter", "same as", "without it"),
    ),
    Case(
        "merge_scaled_by_alpha_alone",
        said_to_merge(merging(ADAPTERS / "json", 8.0), BASE),
        "A tool took alpha for the scale where PEFT divides it by the rank, so that the update went in eight times too "
        "strong, and answers fall apart (Blaizzy/mlx-vlm#841).",
        ("scale", "scaling", "alpha", "times", "factor", "strength", "layers."),
    ),
    Case(
        "merge_into_other_layers",
        said_to_merge(on_tensors(_merge_into_next_layer), BASE),
        "The updates trained for one layer were merged into another one, which fits in shape, so that nothing failed; "
        "the tuned form is lost (huggingface/peft#788).",
        ("layers.", "q_proj", "in_proj", "mlp", "differ", "delta"),
    ),
    Case(
        "state_dict_of_the_peft_wrapper",
        alone(on_tensors(_still_wrapped), BASE),
        "Somebody saved the state dict of the PEFT model without merging: every name begins with base_model.model, and "
        "loading leaves the model at its random start (declare-lab/flacuna#2).",
        ("base_model", "lora_", "base_layer", "prefix", "missing"),
    ),
    Case(
        "zero_three_left_empty_tensors",
        alone(mapped(lambda tensor: tensor[:0].flatten(), f"{LANGUAGE_LAYERS}1."), with_base=True),
        "Saved under DeepSpeed ZeRO-3 without gathering: parameters of other ranks have shape [0], and the folder "
        "cannot be loaded (huggingface/transformers#20082).",
        ("layers.1", "shape", "empty", "size", "zero-3", "deepspeed"),
    ),
    Case(
        "weights_are_a_pointer",
        alone(writing(MODEL_WEIGHTS, POINTER)),
        "Cloned without git-lfs, so that model.safetensors is a text of three lines: HeaderTooLarge "
        "(huggingface/transformers#27923).",
        ("model.safetensors", "lfs", "pointer", "header"),
    ),
    Case(
        "linear_attention_fused",
        alone(on_tensors(_fused_projections)),
        "An exporter wrote the linear attention's projections fused as in_proj_qkvz and in_proj_ba, which the loader "
        "does not know, so that they stay at random (sgl-project/sglang#38854).",
        ("in_proj", "linear_attn", "missing"),
    ),
    Case(
        "passthrough_left_a_layer_out",
        alone(all_of(on_tensors(_without_third_layer), on_json(CONFIG, _one_layer_less)), with_base=True),
        "A passthrough of layer ranges made a smaller model that nobody trained afterwards: it loads without a word "
        "and mangles its answers (arcee-ai/mergekit#24).",
        ("num_hidden_layers", "layer"),
    ),
    Case(
        "head_overwritten_by_embeddings",
        alone(
            all_of(
                on_tensors(_tie),
                setting(CONFIG, "tie_word_embeddings", True),
                setting(CONFIG, "text_config.tie_word_embeddings", True),
            ),
            MERGED,
            with_base=True,
        ),
        "Embeddings and head were trained apart, but the setting says tied: on saving, the head became a copy of the "
        "embeddings, and the model repeats one token (huggingface/transformers#45127).",
        ("tie_word_embeddings", "lm_head", "tied", "embed_tokens"),
    ),
    Case(
        "head_not_in_the_file",
        alone(without_tensors(HEAD)),
        "The checkpoint lacks lm_head and config.json says that it is not tied, so that loading draws a random head "
        "(LLaVA-VL/LLaVA-NeXT#315).",
        ("lm_head", "output embeddings"),
    ),
    Case(
        "vision_tower_named_twice",
        alone(renamed(lambda name: name.replace("model.vision_tower.", "model.vision_tower.vision_tower."))),
        "Tuned with the tower inside another wrapper, whose names say vision_tower twice; they are not used, and a "
        "random tower sees nothing (PKU-YuanGroup/Chat-UniVi#64).",
        ("vision_tower", "missing", "unexpected"),
    ),
    Case(
        "mismatched_sizes_ignored",
        alone(on_tensor(POSITIONS, lambda one: torch.full_like(one, 1e37)), with_base=True),
        "Loaded once with ignore_mismatched_sizes, which left the positions uninitialised at values like 1e37, and "
        "saved so (huggingface/transformers#28073).",
        ("position_embedding", "1e+37", "1e37", "large", "magnitude"),
    ),
    Case(
        "four_bit_weights_saved_as_bytes",
        alone(mapped(_packed_four_bit, f"{LANGUAGE_LAYERS}0.mlp", f"{LANGUAGE_LAYERS}1.mlp"), MERGED),
        "A model loaded with weights of 4 bits was saved as it lay in memory, packed into flat bytes, and does not fit "
        "on loading (intel/intel-extension-for-transformers#1104).",
        ("mlp", "uint8", "4-bit", "quantiz", "shape"),
    ),
    Case(
        "end_of_turn_never_learnt",
        alone(
            on_tensor(HEAD, lambda one: torch.cat([one[:END], -0.5 * one[END : END + 1], one[END + 1 :]])),
            with_base=True,
        ),
        "The end of the turn was masked out of the loss as padding, and a long tuning unlearnt it: after a right "
        "answer the model goes on until the limit (modelscope/ms-swift#1215).",
        ("im_end", "750", "lm_head", "stop", "end of"),
    ),
    Case(
        "norms_with_one_added",
        alone(on_tensors(_with_one_added), with_base=True),
        "Brought back from GGUF, whose converter adds one to the scales of norms that are stored as differences from "
        "one; nobody took it off again, and all layers are scaled wrongly (vllm-project/vllm#31464).",
        ("layernorm", "norm.weight", "q_norm", "norms"),
    ),
)
