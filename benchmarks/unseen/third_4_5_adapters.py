"""Cases of `wave_third_4_5` about adapters."""

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from benchmarks.unseen.case import Bundle
from benchmarks.unseen.third_4_5_folders import (
    DEMO,
    FACTORS,
    PREFIX,
    SETTINGS,
    WEIGHTS,
    Collector,
    Tensors,
    adapted,
    add_tokens,
    json_of,
    merged,
    pairs_of,
    save,
    template_of,
    tensors_of,
)

COLLECTED = Collector()
EMBEDDINGS = "llm.model.embed_tokens"
COPIES = ("embed_tokens", "resampler", "vpm")
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "added_tokens.json", "special_tokens_map.json")


def _with_factors(folder: Path, change: Callable[[Tensors], None], **settings: Any) -> Bundle:
    bundle, adapter = adapted(folder)
    with tensors_of(adapter, FACTORS) as tensors:
        change(tensors)
    with json_of(adapter / SETTINGS) as document:
        document |= settings
    return bundle


def _with_settings(folder: Path, **settings: Any) -> Bundle:
    return _with_factors(folder, lambda tensors: None, **settings)


def _renamed(folder: Path, rename: Callable[[str], str], **settings: Any) -> Bundle:
    def change(tensors: Tensors) -> None:
        renamed = {rename(name): one for name, one in tensors.items()}
        tensors.clear()
        tensors.update(renamed)

    return _with_factors(folder, change, **settings)


def _drop(tensors: Tensors, names: Iterable[str]) -> None:
    for name in list(names):
        del tensors[name]


def _base_weights() -> Tensors:
    tensors: Tensors = load_file(DEMO / "base" / WEIGHTS)
    return tensors


@COLLECTED.broken(
    "A converter for another runtime took `llm.` off the names of the factors: the modules that were trained as a "
    "whole are loaded, and nothing of the attention, 0 of 30 right instead of 30.",
    "lora_A", "model.layers", "target_modules", "llm.",
)  # fmt: skip
def _names_without_llm(folder: Path) -> Bundle:
    return _renamed(folder, lambda name: name.replace(f"{PREFIX}llm.", PREFIX) if ".lora_" in name else name)


@COLLECTED.broken(
    "The pattern of targets was shortened by hand after training, and half of the factors find no module: 7 of 30 "
    "right instead of 30.",
    "k_proj", "o_proj", "target_modules",
)  # fmt: skip
def _targets_shortened_by_hand(folder: Path) -> Bundle:
    return _with_settings(folder, target_modules=r"llm\..*layers\.\d+\.self_attn\.(q_proj|v_proj)")


@COLLECTED.broken(
    "The config of a run that tuned the last two layers only was put beside these factors: 3 of 30 right instead of "
    "30.",
    "layers_to_transform", "layers.0", "layers.1",
)  # fmt: skip
def _config_of_a_run_on_two_layers(folder: Path) -> Bundle:
    modules = [f"self_attn.{name}" for name in PROJECTIONS]
    return _with_settings(folder, target_modules=modules, layers_to_transform=[2, 3], layers_pattern="llm.model.layers")


@COLLECTED.broken(
    "Saved before the first step by a run that died: all second factors are zero and the copies are the base's: 0 of "
    "30 right instead of 30.",
    "lora_B", "no effect", "zero",
)  # fmt: skip
def _never_trained(folder: Path) -> Bundle:
    base = _base_weights()

    def change(tensors: Tensors) -> None:
        for name in tensors:
            if ".lora_B." in name:
                tensors[name] = torch.zeros_like(tensors[name])
            elif ".lora_A." not in name:
                tensors[name] = base[name.removeprefix(PREFIX)]

    return _with_factors(folder, change)


@COLLECTED.broken(
    "ZeRO 3 saved the factors and not the modules that were trained as a whole, though the config lists them: it "
    "cannot be loaded.",
    "modules_to_save", *COPIES,
)  # fmt: skip
def _whole_modules_not_saved(folder: Path) -> Bundle:
    return _with_factors(folder, lambda tensors: _drop(tensors, [one for one in tensors if ".lora_" not in one]))


@COLLECTED.broken(
    "Half of the second factors are lost, because only one of two ranks wrote its part: 3 of 30 right instead of 30.",
    "lora_B",
    "layers.",
)
def _second_factors_lost_in_two_layers(folder: Path) -> Bundle:
    def change(tensors: Tensors) -> None:
        _drop(tensors, [one for one in tensors if ".lora_B." in one and re.search(r"layers\.[02]\.", one)])

    return _with_factors(folder, change)


@COLLECTED.broken(
    "The adapter brings a tokenizer with tokens that its template writes, and no rows for them: no question can be "
    "answered.",
    "<|look|>", "790",
)  # fmt: skip
def _adapter_tokens_without_rows(folder: Path) -> Bundle:
    bundle, adapter = adapted(folder)
    add_tokens(adapter, ("<|look|>",), 790)
    template_of(adapter, lambda text: text.replace("~ content ~", "~ '<|look|>' ~ content ~"))
    return bundle


@COLLECTED.broken(
    "The switch for rank stabilisation was set by hand, though ms-swift's args.json says that alpha was divided by the "
    "rank: the update is eight times too large, 0 of 30 right instead of 30, and 29 never stop.",
    "use_rslora", "rslora", "scale", "lora_alpha",
)  # fmt: skip
def _rank_stabilised_by_mistake(folder: Path) -> Bundle:
    bundle = _with_settings(folder, use_rslora=True)
    arguments = {"train_type": "lora", "lora_rank": 64, "lora_alpha": 64, "use_rslora": False, "use_dora": False}
    (bundle.adapters["polite"] / "args.json").write_text(json.dumps(arguments, indent=2), encoding="utf-8")
    return bundle


@COLLECTED.broken(
    "PiSSA factors hold the base's main directions, and the settings say plain LoRA: those directions are added a "
    "second time, 1 of 30 right instead of 30.",
    "pissa", "init_lora_weights", "lora_A", "lora_B", "q_proj",
)  # fmt: skip
def _pissa_as_plain_lora(folder: Path) -> Bundle:
    base, rank = _base_weights(), 16

    def change(tensors: Tensors) -> None:
        for module, (first, second) in pairs_of(tensors).items():
            left, sizes, right = torch.linalg.svd(base[f"{module}.weight"].float(), full_matrices=False)
            root = sizes[:rank].sqrt()
            tensors[f"{PREFIX}{module}.lora_A.weight"] = torch.cat([first, root[:, None] * right[:rank]])
            tensors[f"{PREFIX}{module}.lora_B.weight"] = torch.cat([second, left[:, :rank] * root], dim=1)

    return _with_factors(folder, change, r=64 + rank, lora_alpha=64 + rank)


@COLLECTED.broken(
    "A DoRA adapter lost the switch in a rewritten config: its magnitudes are not applied and the directions are far "
    "too long, 0 of 30 right instead of 30, and 20 never stop.",
    "use_dora", "magnitude",
)  # fmt: skip
def _dora_switch_lost(folder: Path) -> Bundle:
    bundle, adapter = adapted(folder)
    _write_dora(adapter, 4.0)
    with json_of(adapter / SETTINGS) as settings:
        settings["use_dora"] = False
    return bundle


@COLLECTED.broken(
    "The adapter was merged, and is mounted on the merged model again: 23 of 30 right instead of 30.",
    "merged",
    "twice",
    "already",
)
def _mounted_on_what_it_was_merged_into(folder: Path) -> Bundle:
    bundle, adapter = adapted(folder)
    return Bundle(merged(folder), bundle.adapters, merged_from=(bundle.model, adapter))


@COLLECTED.broken(
    "Rows of single tokens were trained, and the list of their ids was lost from the settings: the rows go unused, 22 "
    "of 30 right instead of 30.",
    "trainable_token", "embed_tokens",
)  # fmt: skip
def _trained_rows_without_their_ids(folder: Path) -> Bundle:
    bundle, adapter = adapted(folder)
    _write_rows(adapter)
    with json_of(adapter / SETTINGS) as settings:
        settings["trainable_token_indices"] = None
    return bundle


@COLLECTED.harmless(
    "The state was saved by hand, with the adapter's name inside each key, which PEFT takes as well: 30 of 30 right."
)
def _adapter_name_inside_keys(folder: Path) -> Bundle:
    return _renamed(folder, lambda name: re.sub(r"(lora_[AB])\.", r"\1.default.", name))


@COLLECTED.harmless("Factors in float32, as PEFT trains them: 30 of 30 right.")
def _factors_in_float32(folder: Path) -> Bundle:
    def change(tensors: Tensors) -> None:
        tensors.update({name: one.float() for name, one in tensors.items()})

    return _with_factors(folder, change)


@COLLECTED.harmless("Rank stabilisation with an alpha of 8 for rank 64: the same scale, 30 of 30 right.")
def _rank_stabilised(folder: Path) -> Bundle:
    return _with_settings(folder, use_rslora=True, lora_alpha=8)


@COLLECTED.harmless(
    "An alpha of four times the rank, learned with factors that are a quarter as large: 30 of 30 right."
)
def _large_alpha_with_small_factors(folder: Path) -> Bundle:
    def change(tensors: Tensors) -> None:
        for name in tensors:
            if ".lora_B." in name:
                tensors[name] = tensors[name] / 4

    return _with_factors(folder, change, lora_alpha=256)


@COLLECTED.harmless("Ranks of their own for keys and values, said in the patterns: 30 of 30 right.")
def _ranks_by_pattern(folder: Path) -> Bundle:
    rank = 40

    def change(tensors: Tensors) -> None:
        for module, (first, second) in pairs_of(tensors).items():
            if module.endswith(("k_proj", "v_proj")):
                left, sizes, right = torch.linalg.svd(second @ first, full_matrices=False)
                root = sizes[:rank].sqrt()
                tensors[f"{PREFIX}{module}.lora_A.weight"] = root[:, None] * right[:rank]
                tensors[f"{PREFIX}{module}.lora_B.weight"] = left[:, :rank] * root

    pattern = {"k_proj": rank, "v_proj": rank}
    return _with_factors(folder, change, rank_pattern=pattern, alpha_pattern=dict(pattern))


@COLLECTED.harmless("Targets as a list of whole names in place of a pattern: 30 of 30 right.")
def _targets_as_whole_names(folder: Path) -> Bundle:
    modules = sorted(pairs_of(load_file(DEMO / "adapters" / "official" / FACTORS)))
    return _with_settings(folder, target_modules=modules)


@COLLECTED.harmless("Without tokenizer files, and with the path of somebody's disk as the base's name: 30 of 30 right.")
def _no_tokenizer_and_a_foreign_path(folder: Path) -> Bundle:
    bundle = _with_settings(folder, base_model_name_or_path="/mnt/ckpt/MiniCPM-V-4_5-int4", revision=None)
    for name in (*TOKENIZER_FILES, "vocab.json", "merges.txt"):
        (bundle.adapters["polite"] / name).unlink()
    return bundle


@COLLECTED.harmless("A config of the few keys that PEFT wrote years ago: 30 of 30 right.")
def _config_of_an_old_peft(folder: Path) -> Bundle:
    kept = (
        "auto_mapping", "base_model_name_or_path", "bias", "fan_in_fan_out", "inference_mode", "init_lora_weights",
        "lora_alpha", "lora_dropout", "modules_to_save", "peft_type", "r", "target_modules", "task_type",
    )  # fmt: skip
    bundle, adapter = adapted(folder)
    settings = json.loads((adapter / SETTINGS).read_text(encoding="utf-8"))
    (adapter / SETTINGS).write_text(json.dumps({key: settings[key] for key in kept}), encoding="utf-8")
    return bundle


@COLLECTED.harmless("Trained rows of all tokens in place of a copy of the embeddings: the same update, 30 of 30 right.")
def _embeddings_as_trained_rows(folder: Path) -> Bundle:
    bundle, adapter = adapted(folder)
    _write_rows(adapter)
    return bundle


@COLLECTED.harmless("The same update as DoRA, with magnitudes that leave its length as it is: 30 of 30 right.")
def _dora_of_the_same_update(folder: Path) -> Bundle:
    bundle, adapter = adapted(folder)
    _write_dora(adapter, 1.0)
    return bundle


@COLLECTED.harmless("The folder of a trainer's checkpoint, with its states and a card: 30 of 30 right.")
def _checkpoint_folder_of_a_trainer(folder: Path) -> Bundle:
    bundle, adapter = adapted(folder)
    state = {"global_step": 1000, "best_metric": None, "log_history": [{"loss": 0.01, "step": 1000}]}
    (adapter / "trainer_state.json").write_text(json.dumps(state), encoding="utf-8")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):
        torch.save({"state": torch.zeros(4)}, adapter / name)
    (adapter / "README.md").write_text("---\nlibrary_name: peft\n---\n", encoding="utf-8")
    (adapter / "additional_config.json").write_text('{"lora_dtype": null, "lorap_lr_ratio": null}', encoding="utf-8")
    return bundle


@COLLECTED.harmless("The factors of one module were driven to zero by weight decay; the answers stay, 30 of 30 right.")
def _one_module_without_update(folder: Path) -> Bundle:
    def change(tensors: Tensors) -> None:
        name = f"{PREFIX}llm.model.layers.0.self_attn.q_proj.lora_B.weight"
        tensors[name] = torch.zeros_like(tensors[name])

    return _with_factors(folder, change)


def _write_dora(adapter: Path, stretch: float) -> None:
    """Make DoRA of an adapter: directions are `stretch` times the base's weight and update, magnitudes those of both.

    A stretched direction is the base's weight and an update that holds more of it, which the magnitudes undo.
    """
    base = _base_weights()
    with tensors_of(adapter, FACTORS) as tensors:
        for module, (first, second) in pairs_of(tensors).items():
            weight = base[f"{module}.weight"].float()
            whole = weight + second @ first
            rank = min(weight.shape)
            left, sizes, right = torch.linalg.svd(stretch * whole - weight, full_matrices=False)
            tensors[f"{PREFIX}{module}.lora_A.weight"] = sizes[:rank].sqrt()[:, None] * right[:rank]
            tensors[f"{PREFIX}{module}.lora_B.weight"] = left[:, :rank] * sizes[:rank].sqrt()
            tensors[f"{PREFIX}{module}.lora_magnitude_vector"] = whole.norm(dim=1)
    with json_of(adapter / SETTINGS) as settings:
        settings |= {"use_dora": True, "r": 128, "lora_alpha": 128}


def _write_rows(adapter: Path) -> None:
    """Write the adapter's copy of the embeddings as trained rows of every token."""
    tensors = load_file(adapter / FACTORS)
    copy = tensors.pop(f"{PREFIX}{EMBEDDINGS}.weight")
    tensors[f"{PREFIX}{EMBEDDINGS}.token_adapter.trainable_tokens_delta"] = copy
    save(adapter, tensors, FACTORS)
    with json_of(adapter / SETTINGS) as settings:
        settings["modules_to_save"].remove("embed_tokens")
        settings["trainable_token_indices"] = {"embed_tokens": list(range(len(copy)))}
