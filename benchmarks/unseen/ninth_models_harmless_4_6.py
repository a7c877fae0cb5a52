"""Sound models of the 4.6 demo that look unusual: other savers, other systems, settings spelled otherwise."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from benchmarks.unseen.case import Bundle, Case
from benchmarks.unseen.fourth_editing import (
    CONFIG,
    GENERATION,
    TEMPLATE,
    TOKENIZER,
    TOKENIZER_CONFIG,
    mean_row,
    merging,
    noise,
    to_type,
    trainer_leftovers,
    with_rows,
)
from benchmarks.unseen.third_4_6_editing import (
    ADAPTERS,
    BASE,
    EMBEDDINGS,
    HEAD,
    INDEX,
    LANGUAGE_LAYERS,
    MERGED,
    MODEL_WEIGHTS,
    Tensors,
    all_of,
    alone,
    on_json,
    on_tensors,
    read_json,
    read_tensors,
    said_to_merge,
    setting,
    sharded,
    shards_of,
    write_json,
)


def _on_windows(folder: Path) -> None:
    for path in [*folder.glob("*.json"), *folder.glob("*.jinja")]:
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))


def _merges_as_texts(content: dict[str, Any]) -> None:
    content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]


def _with_other_shards(folder: Path) -> None:
    """Leave shards of another split beside those that the index names, with other values in them."""
    tensors = {name: torch.zeros_like(one) for name, one in read_tensors(folder).items()}
    sharded(4)(folder)
    for file, shard in shards_of(tensors, 2).items():
        save_file(shard, folder / file, metadata={"format": "pt"})


def _with_companions(folder: Path) -> None:
    """Write what macOS leaves beside each file on drives of other systems."""
    for path in list(folder.iterdir()):
        (folder / f"._{path.name}").write_bytes(bytes.fromhex("0005160700020000") + b"Mac OS X        " + bytes(4072))
    (folder / ".DS_Store").write_bytes(b"\x00\x00\x00\x01Bud1")


def _without_format(folder: Path) -> None:
    save_file(read_tensors(folder), folder / MODEL_WEIGHTS)


def _as_in_the_hub(parent: Path) -> Bundle:
    """Lay the base out as a cache of the hub does: names that point to files named by their content."""
    blobs, snapshot = parent / "blobs", parent / "snapshots" / "8a3c1f5e0b7d49c6a2e4f1908b6d7c5e3a2f1b0c"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for path in BASE.iterdir():
        blob = blobs / hashlib.sha256(path.read_bytes()).hexdigest()
        blob.write_bytes(path.read_bytes())
        (snapshot / path.name).symlink_to(Path("../../blobs") / blob.name)
    return Bundle(snapshot)


def _with_template_twice(folder: Path) -> None:
    text = (folder / TEMPLATE).read_text(encoding="utf-8")
    setting(TOKENIZER_CONFIG, "chat_template", text)(folder)
    write_json(folder / "chat_template.json", {"chat_template": text})


def _tuned_a_little(tensors: Tensors) -> None:
    for seed, name in enumerate(sorted(tensors)):
        if name.startswith(LANGUAGE_LAYERS) and name.endswith("_proj.weight"):
            old = tensors[name]
            tensors[name] = (old.float() + noise(old, 0.005, seed)).to(old.dtype)


def _without_layer_types(content: dict[str, Any]) -> None:
    del content["text_config"]["layer_types"]
    content["text_config"]["full_attention_interval"] = 4


def _gathered_beside_partitions(folder: Path) -> None:
    trainer_leftovers(folder)
    step = folder / "global_step400"
    step.mkdir()
    (step / "zero_pp_rank_0_mp_rank_00_model_states.pt").write_bytes(b"PK\x03\x04")
    (folder / "zero_to_fp32.py").write_text("#!/usr/bin/env python\n", encoding="utf-8")


def _in_one_numbered_shard(folder: Path) -> None:
    sharded(1)(folder)
    index = read_json(folder / INDEX)
    index["metadata"] = {"total_parameters": 0, "total_size": 0}
    (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")


CASES: tuple[Case, ...] = (
    Case(
        "checked_out_on_windows",
        alone(_on_windows),
        "Git turned the line ends of every text file into those of Windows; Jinja and JSON read them as their own",
    ),
    Case(
        "merges_as_texts",
        alone(on_json(TOKENIZER, _merges_as_texts), MERGED),
        "Merged with an older version of tokenizers, which writes merges as texts and not as pairs; both are read "
        "alike (modelscope/ms-swift#3502)",
    ),
    Case(
        "rows_padded_to_a_multiple",
        alone(
            all_of(with_rows(896, mean_row, EMBEDDINGS, HEAD), setting(CONFIG, "text_config.vocab_size", 896)),
            with_base=True,
        ),
        "Embeddings and head were padded to a multiple of 128 for speed: rows that no token has, and more than the "
        "tokenizer counts (QwenLM/Qwen3#1247)",
    ),
    Case(
        "other_shards_left_over",
        alone(_with_other_shards),
        "Shards of an earlier split lie beside those that the index names; loaders go by the index "
        "(unslothai/unsloth-zoo#808)",
    ),
    Case(
        "gathered_in_float32",
        alone(all_of(to_type(torch.float32), _gathered_beside_partitions), with_base=True),
        "zero_to_fp32.py gathered the partitions in float32, twice as large as config.json says, and they were left "
        "in place: nothing was lost (hiyouga/LlamaFactory#477)",
    ),
    Case(
        "cache_switched_off",
        alone(all_of(setting(CONFIG, "text_config.use_cache", False), setting(GENERATION, "use_cache", False))),
        "Training with gradient checkpointing left use_cache at false: slower, and the same answers "
        "(huggingface/trl#3891)",
    ),
    Case(
        "companions_of_macos",
        alone(_with_companions),
        "Copied over a drive without extended attributes: macOS put ._model.safetensors and others beside the files, "
        "which are none of the model's (jundot/omlx#3679)",
    ),
    Case(
        "no_format_in_metadata",
        alone(_without_format),
        "Saved with save_file and no metadata; older versions of transformers could not load it, and today's take it "
        "for PyTorch (ml-explore/mlx#743)",
    ),
    Case(
        "sampling_that_is_switched_off",
        alone(
            on_json(GENERATION, lambda content: content.update(temperature=0.1, top_p=0.001, top_k=1)),
            MERGED,
        ),
        "The exporter added temperature, top_p and top_k beside do_sample false; transformers warns that they are "
        "not used",
    ),
    Case(
        "layers_told_by_interval",
        alone(on_json(CONFIG, _without_layer_types)),
        "config.json gives full_attention_interval in place of the list of layer_types, as the first releases of "
        "Qwen3-Next did; both say the same",
    ),
    Case(
        "tokenizer_class_of_qwen",
        alone(setting(TOKENIZER_CONFIG, "tokenizer_class", "Qwen2TokenizerFast")),
        "TokenizersBackend is unknown before transformers 5, and the class was changed to that of Qwen by hand; "
        "tokenizer.json is read as before (Open-Athena/MarinFold#184)",
    ),
    Case(
        "snapshot_of_the_hub",
        _as_in_the_hub,
        "The folder is a snapshot in the hub's cache, named by its revision: every file is a link to one that is "
        "named by its content",
    ),
    Case(
        "template_in_three_places",
        alone(_with_template_twice, with_base=True),
        "Other versions look for the template in chat_template.json or tokenizer_config.json, so it was written there "
        "too, the same text (QwenLM/Qwen3-VL#1488)",
    ),
    Case(
        "merged_in_float32",
        said_to_merge(all_of(to_type(torch.float32), merging(ADAPTERS / "json")), BASE),
        "Merged in float32 and saved so, to round nothing: the base plus the update to the last digit",
    ),
    Case(
        "tuned_a_little",
        alone(on_tensors(_tuned_a_little), with_base=True),
        "A full tuning with a small rate moved every projection by half a percent; that is what tuning does",
    ),
    Case(
        "one_shard_with_wrong_totals",
        alone(_in_one_numbered_shard, MERGED),
        "Exported as one numbered shard; a tool wrote an index whose totals are 0, which no loader looks at",
    ),
)
