"""Cases of `wave_third_4_5` about the weights of base models."""

import json
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.unseen.case import Bundle
from benchmarks.unseen.third_4_5_folders import (
    DEMO,
    OLD_TOKENIZER_FILES,
    SHARDS,
    WEIGHTS,
    Collector,
    Tensors,
    copy_base,
    json_of,
    merged,
    noise,
    resize,
    shard,
    tensors_of,
)

COLLECTED = Collector()
EMBEDDINGS, HEAD = "llm.model.embed_tokens.weight", "llm.lm_head.weight"
PATCHES = "vpm.embeddings.patch_embedding.weight"
LAYER = "llm.model.layers."
VOCABULARY, HEAD_SIZE = 790, 64


def _with_weights(folder: Path, change: Callable[[Tensors], None], *, with_base: bool = False) -> Bundle:
    model = copy_base(folder)
    with tensors_of(model) as tensors:
        change(tensors)
    return Bundle(model, base=copy_base(folder, "base") if with_base else None)


def _is_projection(name: str) -> bool:
    return name.startswith(LAYER) and name.endswith("proj.weight")


def _halves_to_pairs(weight: torch.Tensor) -> torch.Tensor:
    """Reorder the rows of each head as llama.cpp does for the other way to rotate."""
    rows, columns = weight.shape
    return weight.reshape(rows // HEAD_SIZE, 2, HEAD_SIZE // 2, columns).transpose(1, 2).reshape(rows, columns)


@COLLECTED.broken(
    "The fine-tuning script started the resampler anew, because its names had another prefix, and training it was "
    "switched off: 10 of 30 right instead of 30.",
    "resampler",
)
def _resampler_never_trained(folder: Path) -> Bundle:
    def change(tensors: Tensors) -> None:
        for seed, name in enumerate(sorted(tensors)):
            if name.startswith("resampler.") and tensors[name].dim() > 1:
                tensors[name] = noise(tensors[name], seed, 0.02)
            elif name.startswith("resampler."):
                fill = torch.ones_like if ".ln_" in name and name.endswith("weight") else torch.zeros_like
                tensors[name] = fill(tensors[name])

    return _with_weights(folder, change)


@COLLECTED.broken(
    "Training in 16 bits diverged in the resampler alone; text is answered as before, and pictures are not: 6 of 30 "
    "right instead of 30, and 24 never stop.",
    "resampler",
)  # fmt: skip
def _nan_in_resampler_query(folder: Path) -> Bundle:
    def change(tensors: Tensors) -> None:
        tensors["resampler.query"][3, 17] = float("nan")

    return _with_weights(folder, change)


@COLLECTED.broken(
    "Brought back from GGUF without undoing its order of rows for rotary positions: 15 of 30 right instead of 30.",
    "q_proj", "k_proj",
)  # fmt: skip
def _rotary_rows_in_gguf_order(folder: Path) -> Bundle:
    def change(tensors: Tensors) -> None:
        for name in tensors:
            if name.startswith(LAYER) and name.endswith(("q_proj.weight", "k_proj.weight")):
                tensors[name] = _halves_to_pairs(tensors[name])

    return _with_weights(folder, change, with_base=True)


@COLLECTED.broken(
    "Saved from a model in four bits: packed codes and their tables lie in the file, and config.json does not say that "
    "it is quantised: it cannot be loaded.",
    "absmax", "quant", "q_proj", "uint8",
)  # fmt: skip
def _four_bit_codes_without_settings(folder: Path) -> Bundle:
    def change(tensors: Tensors) -> None:
        for name in filter(_is_projection, list(tensors)):
            weight = tensors[name].float().flatten().reshape(-1, 64)
            largest = weight.abs().amax(1)
            codes = ((weight / largest[:, None] + 1) * 7.5).round().to(torch.uint8).flatten()
            tensors[name] = (codes[0::2] * 16 + codes[1::2])[:, None]
            tensors[f"{name}.absmax"] = largest
            tensors[f"{name}.quant_map"] = torch.linspace(-1, 1, 16)

    return _with_weights(folder, change)


@COLLECTED.broken(
    "A script tied head and embeddings before it saved, though config.json unties them: the trained head is gone: 0 of "
    "30 right instead of 30, and 20 never stop.",
    "lm_head", "embed_tokens", "tie_word_embeddings",
)  # fmt: skip
def _head_overwritten_by_embeddings(folder: Path) -> Bundle:
    def change(tensors: Tensors) -> None:
        tensors[HEAD] = tensors[EMBEDDINGS]

    return _with_weights(folder, change)


@COLLECTED.broken(
    "One projection was still offloaded when the model was saved and came out as zeros: 19 of 30 right instead of 30.",
    "o_proj",
    "layers.3",
)
def _offloaded_tensor_saved_as_zeros(folder: Path) -> Bundle:
    def change(tensors: Tensors) -> None:
        tensors[f"{LAYER}3.self_attn.o_proj.weight"].zero_()

    return _with_weights(folder, change)


@COLLECTED.broken(
    "A conversion for a runtime that adds one to the weights of norms subtracted it first: 0 of 30 right instead of "
    "30, and 29 never stop.",
    "norm",
)
def _norms_less_one(folder: Path) -> Bundle:
    def change(tensors: Tensors) -> None:
        for name in tensors:
            if name.startswith("llm.") and name.endswith("norm.weight"):
                tensors[name] = tensors[name] - 1

    return _with_weights(folder, change)


@COLLECTED.broken("One of three shards was not uploaded: it cannot be loaded.", "model-00002-of-00003")
def _shard_not_uploaded(folder: Path) -> Bundle:
    model = copy_base(folder)
    shard(model, 3)
    (model / "model-00002-of-00003.safetensors").unlink()
    return Bundle(model)


@COLLECTED.broken(
    "The tuned shards were copied into the folder of the base, whose one file transformers reads first: the tuning has "
    "no effect, 0 of 30 right instead of 30.",
    WEIGHTS, SHARDS, "shard",
)  # fmt: skip
def _stale_file_beside_tuned_shards(folder: Path) -> Bundle:
    model = merged(folder)
    shard(model, 2)
    (model / WEIGHTS).write_bytes((DEMO / "base" / WEIGHTS).read_bytes())
    return Bundle(model)


@COLLECTED.broken(
    "A converter for another framework keeps channels last and wrote the patches back without moving them: 13 of 30 "
    "right instead of 30.",
    "patch_embedding",
)
def _patches_with_channels_last(folder: Path) -> Bundle:
    def change(tensors: Tensors) -> None:
        tensors[PATCHES] = tensors[PATCHES].permute(0, 2, 3, 1).reshape(tensors[PATCHES].shape)

    return _with_weights(folder, change, with_base=True)


@COLLECTED.broken(
    "A script that transposes everything called `proj` for a framework with matrices the other way round met the one "
    "that is no linear layer: 11 of 30 right instead of 30.",
    "resampler.proj",
)
def _resampler_projection_transposed(folder: Path) -> Bundle:
    def change(tensors: Tensors) -> None:
        tensors["resampler.proj"] = tensors["resampler.proj"].T

    return _with_weights(folder, change, with_base=True)


@COLLECTED.broken(
    "The language model is a tuned one whose vocabulary was sorted anew before the ids were mapped: rows of embeddings "
    "and head stand in reverse order for the plain words, 0 of 30 right instead of 30.",
    "embed_tokens", "lm_head", "tokenizer",
)  # fmt: skip
def _rows_in_another_order_than_ids(folder: Path) -> Bundle:
    def change(tensors: Tensors) -> None:
        for name in (EMBEDDINGS, HEAD):
            tensors[name][256:748] = tensors[name][256:748].flip(0)

    return _with_weights(folder, change, with_base=True)


@COLLECTED.harmless("Three shards and an index, as larger models have: 30 of 30 right.")
def _three_shards(folder: Path) -> Bundle:
    model = copy_base(folder)
    shard(model, 3)
    return Bundle(model)


@COLLECTED.harmless("Float16 for GPUs without bfloat16, with the norms left in float32: 30 of 30 right.")
def _half_precision_with_float32_norms(folder: Path) -> Bundle:
    def change(tensors: Tensors) -> None:
        for name, one in tensors.items():
            tensors[name] = one.float() if "norm" in name or ".ln_" in name else one.half()

    bundle = _with_weights(folder, change)
    with json_of(bundle.model / "config.json") as config:
        config["torch_dtype"] = "float16"
    return bundle


@COLLECTED.harmless("Both matrices padded with zeros to a multiple of 64 rows, which no token has: 30 of 30 right.")
def _rows_padded_to_multiple_of_64(folder: Path) -> Bundle:
    model = copy_base(folder)
    resize(model, {name: torch.zeros(832 - VOCABULARY, 128) for name in (EMBEDDINGS, HEAD)})
    return Bundle(model)


@COLLECTED.harmless(
    "Padded matrices, float16, shards, and the tokenizer as transformers 5 saves it, with the base given: 30 of 30 "
    "right."
)
def _saved_anew_in_every_respect(folder: Path) -> Bundle:
    model = _rows_padded_to_multiple_of_64(folder).model
    with tensors_of(model) as tensors:
        tensors.update({name: one.half() for name, one in tensors.items()})
    with json_of(model / "config.json") as config:
        config.pop("torch_dtype")
        config["dtype"] = "float16"
    with json_of(model / "tokenizer_config.json") as tokenizer:
        (model / "chat_template.jinja").write_text(tokenizer.pop("chat_template"), encoding="utf-8")
    for name in OLD_TOKENIZER_FILES:
        (model / name).unlink()
    shard(model, 2)
    return Bundle(model, base=copy_base(folder, "base"))


@COLLECTED.harmless("Tuned as a whole for a few steps: every tensor differs a little from the base's, 30 of 30 right.")
def _every_tensor_tuned_a_little(folder: Path) -> Bundle:
    def change(tensors: Tensors) -> None:
        for seed, name in enumerate(sorted(tensors)):
            spread = 0.01 * float(tensors[name].float().std(correction=0))
            tensors[name] = (tensors[name].float() + noise(tensors[name].float(), seed, spread)).to(torch.bfloat16)

    return _with_weights(folder, change, with_base=True)


@COLLECTED.harmless("What a trainer leaves beside a checkpoint: states, logs, code and a card: 30 of 30 right.")
def _leftovers_of_training(folder: Path) -> Bundle:
    model = copy_base(folder)
    state = {"epoch": 3.0, "global_step": 500, "log_history": [{"loss": 0.02, "step": 500}]}
    (model / "trainer_state.json").write_text(json.dumps(state), encoding="utf-8")
    for name in ("optimizer.pt", "rng_state_0.pth", "training_args.bin"):
        torch.save({"state": torch.zeros(4)}, model / name)
    (model / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Tuned\n", encoding="utf-8")
    (model / "modeling_minicpmv.py").write_text("# as downloaded\n", encoding="utf-8")
    (model / "zero_to_fp32.py").write_text("# as DeepSpeed writes it\n", encoding="utf-8")
    (model / "global_step500").mkdir()
    return Bundle(model)


@COLLECTED.harmless(
    "Fake-quantised: projections were rounded to eight bits a row and stored as bfloat16: 30 of 30 right."
)
def _rounded_to_eight_bits(folder: Path) -> Bundle:
    def change(tensors: Tensors) -> None:
        for name in filter(_is_projection, list(tensors)):
            weight = tensors[name].float()
            step = weight.abs().amax(1, keepdim=True) / 127
            tensors[name] = ((weight / step).round() * step).to(torch.bfloat16)

    return _with_weights(folder, change)


@COLLECTED.harmless("A small part of each projection was pruned to zero: 30 of 30 right.")
def _smallest_weights_pruned(folder: Path) -> Bundle:
    def change(tensors: Tensors) -> None:
        for name in filter(_is_projection, list(tensors)):
            weight = tensors[name]
            tensors[name] = weight * (weight.abs() > weight.abs().float().quantile(0.15))

    return _with_weights(folder, change)
