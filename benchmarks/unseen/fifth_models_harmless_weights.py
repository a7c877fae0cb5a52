"""Harmless models of the fifth wave: other ways to write the same weights."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from benchmarks.unseen.case import Bundle, Case
from benchmarks.unseen.fourth_editing import (
    CONFIG,
    mean_row,
    merging,
    names_of,
    noise,
    to_type,
    trainer_leftovers,
    with_rows,
    zero_row,
)
from benchmarks.unseen.third_4_6_editing import (
    ADAPTERS,
    BASE,
    EMBEDDINGS,
    HEAD,
    INDEX,
    MERGED,
    MODEL_WEIGHTS,
    Make,
    Tensors,
    all_of,
    alone,
    copied,
    mapped,
    on_tensors,
    read_tensors,
    said_to_merge,
    setting,
    shards_of,
    taking,
    write_json,
    write_rows,
    write_shards,
)

STATES = ("A_log", "dt_bias", "linear_attn.norm.weight")


def _add_prediction_head(tensors: Tensors) -> None:
    """Keep a head for more than one token ahead, which transformers does not build."""
    for name in names_of(tensors, ("language_model.layers.3.",)):
        tensors[name.replace("model.language_model.layers.3.", "mtp.layers.0.")] = tensors[name].clone()
    tensors["mtp.norm.weight"] = tensors["model.language_model.norm.weight"].clone()
    tensors["mtp.fc.weight"] = torch.zeros(128, 256, dtype=torch.bfloat16)


def _without_metadata(folder: Path) -> None:
    """Write the weights with no metadata in the file's header."""
    save_file(read_tensors(folder), folder / MODEL_WEIGHTS)


def _in_other_order(folder: Path) -> None:
    """Split by kind instead of by layer, name the shards otherwise, and count no size."""
    tensors = read_tensors(folder)
    seeing = {name: one for name, one in tensors.items() if "language_model" not in name}
    rest = {name: one for name, one in tensors.items() if name not in seeing}
    write_shards(folder, {"vision-and-head.safetensors": seeing, "language.safetensors": rest})
    (folder / MODEL_WEIGHTS).unlink()
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    write_json(folder / INDEX, {"metadata": {"total_size": 0}, "weight_map": index["weight_map"]})


def _old_index_beside(folder: Path) -> None:
    """Leave the index of an upload in shards beside the one file that replaced them."""
    shards = shards_of(read_tensors(folder), 3)
    where = {name: file for file, shard in shards.items() for name in shard}
    write_json(folder / INDEX, {"metadata": {"total_size": 5_477_000}, "weight_map": where})


def _states_of_trainer(folder: Path) -> None:
    """Keep what DeepSpeed writes beside a checkpoint."""
    trainer_leftovers(folder)
    states = folder / "global_step400"
    states.mkdir()
    torch.save({"module": {}}, states / "mp_rank_00_model_states.pt")
    (folder / "zero_to_fp32.py").write_text("print('see the trainer')\n", encoding="utf-8")


def _stale_pickle(folder: Path) -> None:
    """Keep an earlier step's weights as a pickle, which is not read."""
    tensors = {name: one + noise(one, 0.5, 3).to(one.dtype) for name, one in read_tensors(folder).items()}
    torch.save(tensors, folder / "pytorch_model.bin")


def _tokens_merged(parent: Path) -> Bundle:
    """Merge an adapter with new tokens, their rows and its tokenizer files."""
    model = copied(BASE, parent, "tuned-tokens")
    merging(ADAPTERS / "tokens")(model)
    on_tensors(write_rows)(model)
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        taking(file, ADAPTERS / "tokens")(model)
    with_rows(767, mean_row, HEAD, EMBEDDINGS)(model)
    setting(CONFIG, "text_config.vocab_size", 767)(model)
    return Bundle(model, merged_from=(BASE, ADAPTERS / "tokens"))


def _renamed(name: str, source: Path = BASE) -> Make:
    """Make a case of a folder under another name."""
    return lambda parent: Bundle(copied(source, parent, name))


CASES = (
    Case(
        "prediction_head_kept",
        alone(on_tensors(_add_prediction_head)),
        "A merge script carried over the multi-token head that the release has beside the model; transformers ignores "
        "its tensors (2U1/Qwen-VL-Series-Finetune#259)",
    ),
    Case(
        "states_in_full_precision",
        alone(mapped(lambda one: one.float(), *STATES)),
        "The linear attention's states and gated norms are kept in float32 beside bfloat16 weights, as the release "
        "does it (NeuraLegion/shainet#176)",
    ),
    Case(
        "saved_in_full_precision",
        alone(all_of(to_type(torch.float32), setting(CONFIG, "dtype", "float32")), MERGED, with_base=True),
        "The merge was computed and saved in float32, twice as large and equal",
    ),
    Case(
        "merge_rounded_to_half",
        said_to_merge(all_of(to_type(torch.float32), merging(ADAPTERS / "json"), to_type(torch.float16)), BASE),
        "Merged in float32 and saved as float16, whose rounding differs from the usual bfloat16 and changes no answer",
    ),
    Case(
        "no_metadata_in_weight_file",
        alone(_without_metadata),
        "A converter wrote safetensors without the metadata that transformers once insisted on "
        "(foundation-model-stack/fastsafetensors#96)",
    ),
    Case(
        "shards_by_part",
        alone(_in_other_order, MERGED),
        "Shards split by part instead of by size, under names of somebody's own, with an index that gives no size",
    ),
    Case(
        "old_index_beside_whole_file",
        alone(_old_index_beside),
        "The index of an earlier upload in shards was not deleted; the single file is read first",
    ),
    Case(
        "trainer_states_beside",
        alone(_states_of_trainer, MERGED, with_base=True),
        "A checkpoint folder as DeepSpeed leaves it, with its global step and scripts, served as it is "
        "(deepspeedai/DeepSpeed#2413)",
    ),
    Case(
        "stale_pickle_beside",
        alone(_stale_pickle),
        "An earlier step's `pytorch_model.bin` lies beside the safetensors, which alone are read",
    ),
    Case(
        "rows_padded_for_speed",
        alone(
            all_of(with_rows(896, mean_row, HEAD, EMBEDDINGS), setting(CONFIG, "text_config.vocab_size", 896)), MERGED
        ),
        "A trainer padded the matrices to a multiple of 128 rows, which no token uses (huggingface/tokenizers#1490)",
    ),
    Case(
        "rows_cut_to_tokenizer",
        alone(all_of(with_rows(761, zero_row, HEAD, EMBEDDINGS), setting(CONFIG, "text_config.vocab_size", 761))),
        "`resize_token_embeddings(len(tokenizer))` cut the rows that no token used (unslothai/unsloth#3416)",
    ),
    Case(
        "tokens_merged_with_rows",
        _tokens_merged,
        "An adapter with new tokens merged whole: factors, rows of both matrices, and its tokenizer",
    ),
    Case(
        "tuned_a_little",
        alone(mapped(lambda one: one + noise(one, 0.005, 11).to(one.dtype), "_proj.weight"), with_base=True),
        "A full tuning with a tiny learning rate moved every matrix by a trace and changed no answer",
    ),
    Case(
        "folder_in_chinese",
        _renamed("微调模型 v1.0 (最终版)"),
        "The folder's name has Chinese letters, spaces, dots and brackets",
    ),
    Case(
        "buffers_saved_too",
        alone(
            on_tensors(
                lambda tensors: tensors.update(
                    {
                        "model.language_model.rotary_emb.inv_freq": 10_000 ** -(torch.arange(8) / 8),
                        "model.vision_tower.embeddings.position_ids": torch.arange(64).expand(1, -1),
                    }
                )
            )
        ),
        "Saved from a state dict with its buffers, which the model computes itself",
    ),
)
