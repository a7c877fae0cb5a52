"""Cases of `wave_third_4_5` about models that an adapter was merged into."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from benchmarks.unseen.case import Bundle
from benchmarks.unseen.third_4_5_folders import (
    FACTORS,
    PREFIX,
    SETTINGS,
    Collector,
    copy_adapter,
    copy_base,
    json_of,
    merge,
    merged,
    pairs_of,
    shard,
    tensors_of,
)

COLLECTED = Collector()


def _with_origin(folder: Path, model: Path) -> Bundle:
    return Bundle(model, merged_from=(copy_base(folder, "base"), copy_adapter(folder)))


@COLLECTED.broken(
    "The merge script ran on its own output: the update is in the weights twice, 23 of 30 right instead of 30.",
    "q_proj",
    "twice",
)
def _merged_twice(folder: Path) -> Bundle:
    return _with_origin(folder, merged(folder, times=2))


@COLLECTED.broken(
    "A script of one's own merged queries and values only, as in the LoRA paper, though keys and outputs are tuned "
    "too: 7 of 30 right instead of 30.",
    "k_proj", "o_proj",
)  # fmt: skip
def _merged_queries_and_values_only(folder: Path) -> Bundle:
    return _with_origin(folder, merged(folder, only=("q_proj", "v_proj")))


@COLLECTED.broken(
    "A script of one's own multiplied the factors and left out what `modules_to_save` had trained: 22 of 30 right "
    "instead of 30.",
    "embed_tokens", "vpm", "resampler", "modules_to_save",
)  # fmt: skip
def _merged_without_whole_modules(folder: Path) -> Bundle:
    return _with_origin(folder, merged(folder, with_copies=False))


@COLLECTED.broken(
    "The adapter was trained with an alpha of twice the rank, and the script of one's own added the plain product: 12 "
    "of 30 right instead of 30.",
    "alpha", "scale", "q_proj",
)  # fmt: skip
def _merged_without_the_scale(folder: Path) -> Bundle:
    bundle = _with_origin(folder, merged(folder, times=0.5))
    assert bundle.merged_from
    adapter = bundle.merged_from[1]
    with tensors_of(adapter, FACTORS) as tensors:
        for name in tensors:
            if ".lora_B." in name:
                tensors[name] = tensors[name] / 2
    with json_of(adapter / SETTINGS) as settings:
        settings["lora_alpha"] = 128
    return bundle


@COLLECTED.broken(
    "`save_pretrained` was called on the base inside PEFT, and not on what `merge_and_unload` returns: the file has "
    "the names of wrapped layers, it cannot be loaded.",
    "base_layer", "lora_A", "q_proj.weight",
)  # fmt: skip
def _saved_before_unloading(folder: Path) -> Bundle:
    model = copy_base(folder)
    factors = load_file(copy_adapter(folder) / FACTORS)
    with tensors_of(model) as tensors:
        for module in pairs_of(factors):
            tensors[f"{module}.base_layer.weight"] = tensors.pop(f"{module}.weight")
            for factor in ("lora_A", "lora_B"):
                tensors[f"{module}.{factor}.default.weight"] = factors[f"{PREFIX}{module}.{factor}.weight"]
    return Bundle(model)


@COLLECTED.broken(
    "Merged in the last shard only: the script replaced one of two files and kept the other from the base, 0 of 30 "
    "right instead of 30.",
    "layers.", "q_proj", "embed_tokens",
)  # fmt: skip
def _one_shard_of_two_merged(folder: Path) -> Bundle:
    plain = copy_base(folder, "plain")
    model = merged(folder)
    for one in (plain, model):
        shard(one, 2)
    name = "model-00001-of-00002.safetensors"
    (model / name).write_bytes((plain / name).read_bytes())
    return _with_origin(folder, model)


@COLLECTED.harmless("Merged in float32 and stored in bfloat16, base and adapter given: 30 of 30 right.")
def _merged_rightly(folder: Path) -> Bundle:
    return _with_origin(folder, merged(folder))


@COLLECTED.harmless("Merged, with shards and in float16; where it comes from is not said: 30 of 30 right.")
def _merged_into_half_precision_shards(folder: Path) -> Bundle:
    model = merged(folder)
    with tensors_of(model) as tensors:
        tensors.update({name: one.half() for name, one in tensors.items()})
    with json_of(model / "config.json") as config:
        config["torch_dtype"] = "float16"
    shard(model, 2)
    return Bundle(model)


@COLLECTED.harmless(
    "Merged in bfloat16, as most scripts do: each weight was rounded once more on the way, 30 of 30 right."
)
def _merged_in_bfloat16(folder: Path) -> Bundle:
    model = merged(folder)
    adapter = copy_adapter(folder, "scratch")
    factors = load_file(adapter / FACTORS)
    with tensors_of(model) as tensors, tensors_of(copy_base(folder, "start")) as start:
        for module, (first, second) in pairs_of(factors).items():
            update = second.bfloat16() @ first.bfloat16()
            tensors[f"{module}.weight"] = start[f"{module}.weight"] + update
    return _with_origin(folder, model)


@COLLECTED.harmless(
    "Merged into a base that QLoRA had rounded to eight bits, and so differs a little from it: 30 of 30 right."
)
def _merged_into_rounded_base(folder: Path) -> Bundle:
    model = copy_base(folder, "merged")
    with tensors_of(model) as tensors:
        for name, weight in tensors.items():
            if name.startswith("llm.model.layers") and name.endswith("proj.weight"):
                step = weight.float().abs().amax(1, keepdim=True) / 127
                tensors[name] = ((weight.float() / step).round() * step).to(torch.bfloat16)
    merge(model, copy_adapter(folder, "scratch"))
    return Bundle(model, base=copy_base(folder, "base"))


@COLLECTED.harmless(
    "Merged with the tokenizer files that the adapter brought, and with the base given: 30 of 30 right."
)
def _merged_with_the_adapters_tokenizer(folder: Path) -> Bundle:
    model, adapter = merged(folder), copy_adapter(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (model / name).write_bytes((adapter / name).read_bytes())
    for name in ("vocab.json", "merges.txt"):
        (model / name).unlink()
    return Bundle(model, base=copy_base(folder, "base"))
