"""Broken weights of models: lost, doubled, mixed up, converted wrongly, never trained."""

from pathlib import Path

import torch

from benchmarks.unseen.case import Case
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
    mapped,
    on_tensors,
    read_json,
    read_lora,
    read_tensors,
    setting,
    sharded,
    shards_of,
    taking,
    target_of,
    without_tensors,
    write_shards,
    write_tensors,
)

LETTERS_OF_CHINESE = frozenset("äåæçèé")
"""First bytes of Chinese characters, as byte-level vocabularies write them."""


def _overflow(tensors: Tensors) -> None:
    tensors[f"{LANGUAGE_LAYERS}2.mlp.down_proj.weight"][5, 7] = torch.inf


def _double_layer(tensors: Tensors) -> None:
    for name in [one for one in tensors if one.startswith(f"{LANGUAGE_LAYERS}1.")]:
        tensors[name.replace(".layers.1.", ".layers.2.")] = tensors[name]


def _exchange(tensors: Tensors, first: str, second: str) -> None:
    for name in [one for one in tensors if one.startswith(LANGUAGE_LAYERS) and first in one]:
        other = name.replace(first, second)
        tensors[name], tensors[other] = tensors[other], tensors[name]


def _quantised(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    scale = weight.float().abs().amax(1, keepdim=True) / 127
    return (weight.float() / scale).round(), scale


def _keep_int8(tensors: Tensors) -> None:
    for name in [one for one in tensors if one.startswith(LANGUAGE_LAYERS) and ".mlp." in one]:
        whole, scale = _quantised(tensors[name])
        tensors[name], tensors[f"{name}_scale"] = whole.to(torch.int8), scale


def _lose_scales(tensors: Tensors) -> None:
    for name in [one for one in tensors if one.startswith(LANGUAGE_LAYERS) and ".mlp." in one]:
        tensors[name] = _quantised(tensors[name])[0].to(torch.bfloat16)


def _head_from_embeddings(tensors: Tensors) -> None:
    tensors[HEAD] = tensors[EMBEDDINGS].clone()


def _forget_end(tensors: Tensors) -> None:
    tensors[HEAD][750] = 0


def _start_special_rows_anew(tensors: Tensors) -> None:
    tensors[EMBEDDINGS][748:761] = tensors[EMBEDDINGS].float().mean(0).to(torch.bfloat16)


def _forget_chinese(tensors: Tensors) -> None:
    for word, token_id in read_json(BASE / "tokenizer.json")["model"]["vocab"].items():
        if len(word) > 1 and LETTERS_OF_CHINESE.intersection(word):
            tensors[EMBEDDINGS][token_id] = 0


def _forget_merger(tensors: Tensors) -> None:
    tensors["model.merger.mlp.0.linear_2.weight"][:] = 0


def _to_blue_green_red(tensors: Tensors) -> None:
    name = "model.vision_tower.embeddings.patch_embedding.weight"
    tensors[name] = tensors[name].flip(1)


def _shift_norms(tensors: Tensors) -> None:
    for name in [one for one in tensors if one.startswith(LANGUAGE_LAYERS) and "layernorm" in one]:
        tensors[name] = tensors[name] + 1


def _exponentiate(tensor: torch.Tensor) -> torch.Tensor:
    return -tensor.float().exp()


def _transpose(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.T


def _half_download(folder: Path) -> None:
    path = folder / MODEL_WEIGHTS
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])


def _lose_shard(folder: Path) -> None:
    sharded(3)(folder)
    (folder / "model-00002-of-00003.safetensors").unlink()


def _shard_beside_old_weights(folder: Path) -> None:
    write_shards(folder, shards_of(read_tensors(folder), 2))
    taking(MODEL_WEIGHTS, BASE)(folder)


def _save_wrapped(folder: Path) -> None:
    """As `get_base_model().save_pretrained` does while the adapter is still mounted."""
    factors = read_lora(ADAPTERS / "json")
    wrapped = {target_of(name) for name in factors}
    saved = {
        name.replace(".weight", ".base_layer.weight") if name in wrapped else name: tensor
        for name, tensor in read_tensors(BASE).items()
    }
    for name, tensor in factors.items():
        saved[name.removeprefix("base_model.model.").replace(".weight", ".default.weight")] = tensor
    write_tensors(folder, saved)


CASES = (
    Case(
        "overflow_in_one_weight",
        alone(on_tensors(_overflow)),
        "One entry of a projection overflowed to infinity while training in float16: 0 of 36 right instead of 35.",
        ("layers.2.mlp.down_proj",),
    ),
    Case(
        "layer_doubled",
        alone(on_tensors(_double_layer)),
        "A script that copies layers wrote the second over the third: 15 of 36 right instead of 35.",
        ("layers.1", "layers.2", "layers 1", "layers 2"),
    ),
    Case(
        "layers_exchanged",
        alone(on_tensors(lambda tensors: _exchange(tensors, ".layers.0.", ".layers.1.")), with_base=True),
        "A conversion numbered the first two layers the other way round. The base is known. 11 of 36 right instead "
        "of 35.",
        ("layers.0", "layers.1"),
    ),
    Case(
        "gate_and_up_exchanged",
        alone(on_tensors(lambda tensors: _exchange(tensors, "gate_proj", "up_proj")), with_base=True),
        "A fused gate_up_proj was split in the wrong order. The base is known. 24 of 36 right instead of 35.",
        ("gate_proj", "up_proj"),
    ),
    Case(
        "projection_transposed",
        alone(mapped(_transpose, "linear_attn.out_proj"), with_base=True),
        "A conversion transposed square weights, which shows in no shape. The base is known. 3 of 36 right instead "
        "of 35.",
        ("out_proj",),
    ),
    Case(
        "int8_without_its_code",
        alone(on_tensors(_keep_int8)),
        "Weights were kept as int8 with scales that nothing here multiplies by: 0 of 36 right instead of 35.",
        ("int8", "i8", "weight_scale"),
    ),
    Case(
        "scales_lost",
        alone(on_tensors(_lose_scales)),
        "int8 weights were cast back without their scales and are hundreds of times too large: 0 of 36 right instead "
        "of 35.",
        (".mlp.", "down_proj", "gate_proj", "up_proj"),
    ),
    Case(
        "norms_shifted_by_one",
        alone(on_tensors(_shift_norms)),
        "A converted file keeps each norm's weight with the one that this model adds itself, and was converted back "
        "without taking it away: 129 of 180 right instead of 176.",
        ("layernorm",),
    ),
    Case(
        "decay_exponentiated",
        alone(mapped(_exponentiate, "A_log")),
        "The decays were taken out of a converted file, which keeps -exp(A_log) under A_log: 6 of 36 right instead of "
        "35.",
        ("A_log",),
    ),
    Case(
        "head_tied_by_hand",
        alone(on_tensors(_head_from_embeddings)),
        "A merge script tied the head to the embeddings, which this model does not: 0 of 36 right instead of 35.",
        ("lm_head", "embed_tokens", "tie_word_embeddings"),
    ),
    Case(
        "end_of_turn_forgotten",
        alone(on_tensors(_forget_end)),
        "The head's row of <|im_end|> is zero, after a resize that started it anew: 0 of 36 answers stop.",
        ("<|im_end|>", "750"),
    ),
    Case(
        "special_rows_started_anew",
        alone(on_tensors(_start_special_rows_anew)),
        "A script that resizes embeddings set the rows of all special tokens to the mean of the others: 26 of 36 "
        "right instead of 35.",
        ("<|im_start|>", "<|im_end|>", "<image>", "<think>", "749", "750"),
    ),
    Case(
        "chinese_pruned",
        alone(on_tensors(_forget_chinese)),
        "Embeddings were pruned to an English vocabulary, and the tokenizer was left as it was: of 83 "
        "Chinese questions 8 are right, English ones hardly change.",
        ("embed_tokens",),
    ),
    Case(
        "merger_not_gathered",
        alone(on_tensors(_forget_merger)),
        "One weight of the merger was saved as zeros by a partitioned optimiser: the model sees nothing, 12 of 36 "
        "right instead of 35.",
        ("merger",),
    ),
    Case(
        "colours_reversed",
        alone(on_tensors(_to_blue_green_red), with_base=True),
        "The first convolution's channels were reversed for pictures read as BGR, which the processor does not give. "
        "The base is known. 144 of 180 right instead of 176, and 7 of 19 questions for colours.",
        ("patch_embedding",),
    ),
    Case(
        "tower_left_out",
        alone(without_tensors("vision_tower")),
        "The language model was saved alone, under the config of the whole: about 15 of 36 right instead of 35.",
        ("vision_tower",),
    ),
    Case(
        "saved_with_the_adapter_mounted",
        alone(_save_wrapped, MERGED),
        "The base was saved from under PEFT without merging: weights lie under base_layer, and neither they nor the "
        "factors are loaded. 0 of 36 right instead of 36.",
        ("base_layer", "lora_A", "lora_B"),
    ),
    Case(
        "matrices_cut_to_a_multiple",
        alone(
            all_of(
                mapped(lambda tensor: tensor[:704], HEAD, EMBEDDINGS),
                setting("config.json", "text_config.vocab_size", 704),
            )
        ),
        "The vocabulary was rounded down to a multiple of 64 and not up; every special token is outside, and the "
        "model does not load.",
        ("704", "vocab_size", "embed_tokens", "<|im_start|>", "<|endoftext|>"),
    ),
    Case(
        "half_a_download",
        alone(_half_download),
        "The download of the weights broke off at 60%: they do not load.",
        (MODEL_WEIGHTS,),
    ),
    Case(
        "shard_missing",
        alone(_lose_shard),
        "One of three shards was not uploaded: the model does not load.",
        ("model-00002-of-00003",),
    ),
    Case(
        "old_weights_before_the_shards",
        alone(_shard_beside_old_weights, MERGED),
        "The merge was saved in shards into the base's folder, whose model.safetensors still lies there and is loaded "
        "first: it answers as the base does, 0 of 36 right instead of 36.",
        (MODEL_WEIGHTS, "shard"),
    ),
)
