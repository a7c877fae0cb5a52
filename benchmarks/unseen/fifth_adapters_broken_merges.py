"""Broken merges of adapters of 4.6: something was left out, counted otherwise, or saved wrong."""

import shutil
from pathlib import Path

from benchmarks.unseen.case import Bundle, Case
from benchmarks.unseen.fifth_adapters_editing import (
    JSON,
    OFFICIAL,
    RANK,
    TOKENS,
    merge_of,
    merge_of_changed,
    whole_merge,
    with_settings,
)
from benchmarks.unseen.fourth_editing import ADAPTER_CONFIG, CONFIG, merging
from benchmarks.unseen.third_4_6_editing import (
    ADAPTER_WEIGHTS,
    BASE,
    HEAD,
    MERGED,
    Tensors,
    all_of,
    copied,
    deltas,
    merge_into,
    on_tensors,
    read_json,
    read_tensors,
    shards_of,
    taking,
    without_tensors,
    write_json,
    write_shards,
    write_tensors,
)


def _tied(folder: Path) -> None:
    content = read_json(folder / CONFIG)
    text = {**content["text_config"], "tie_word_embeddings": True}
    write_json(folder / CONFIG, {**content, "tie_word_embeddings": True, "text_config": text})


def _with_plain_scale(model: Path, adapter: Path) -> None:
    tensors = read_tensors(model)
    merge_into(tensors, deltas(adapter))  # which divides by the rank, whatever the settings say
    write_tensors(model, tensors)


def _without_rows(folder: Path) -> None:
    whole_merge(TOKENS)(folder)
    tensors, base = read_tensors(folder), read_tensors(BASE)
    for name in (HEAD, "model.language_model.embed_tokens.weight"):
        tensors[name] = base[name]
    write_tensors(folder, tensors)


def _with_one_old_shard(folder: Path) -> None:
    old = shards_of(read_tensors(folder), 4)
    merging(JSON)(folder)
    new = shards_of(read_tensors(folder), 4)
    mixed = {file: (old if file.startswith("model-00001") else new)[file] for file in new}
    (folder / "model.safetensors").unlink()
    write_shards(folder, mixed)


def _as_saved_before_unloading(tensors: Tensors) -> Tensors:
    adapted = deltas(JSON)
    return {
        name.removesuffix(".weight") + ".base_layer.weight" if name in adapted else name: one
        for name, one in tensors.items()
    }


def _with_leftover_adapter(folder: Path) -> None:
    merging(JSON)(folder)
    for file in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        shutil.copyfile(JSON / file, folder / file)


def _served_with_its_adapter(parent: Path) -> Bundle:
    return Bundle(copied(MERGED, parent), {"json": copied(JSON, parent)}, base=BASE)


def _of_attention(name: str) -> bool:
    return ".mlp." not in name


CASES = (
    Case(
        "merged_without_rslora",
        merge_of_changed(with_settings({"use_rslora": True, "lora_alpha": 2 * RANK**0.5}), _with_plain_scale),
        "The merging tool divides by the rank, though the adapter asks for the root of the rank, so that a third of "
        "the update arrives; answers are hardly JSON. (paiml/aprender#2189)",
        ("rslora", "scal", "lora_alpha", "0.35", "update"),
    ),
    Case(
        "merged_to_nothing",
        merge_of(JSON, lambda _: None),
        "The adapter's names had a prefix more than the merging script thought, so that nothing matched and the base "
        "was saved again. (huggingface/peft#1579)",
        ("identical", "unchanged", "nothing", "not merged", "no update", "q_proj"),
    ),
    Case(
        "tied_again_after_merging",
        merge_of(TOKENS, all_of(whole_merge(TOKENS), _tied, without_tensors(HEAD))),
        "The merged settings say that head and embeddings are one matrix, so that the trained head was not saved and "
        "the embeddings answer in its place. (huggingface/transformers#45127)",
        ("tie_word_embeddings", "lm_head", "tied"),
    ),
    Case(
        "merged_with_the_tokenizer_of_the_base",
        merge_of(TOKENS, all_of(whole_merge(TOKENS), taking("tokenizer.json", BASE))),
        "The merged folder got the base's tokenizer, which lacks the tokens that the model now writes; the markup "
        "of every answer vanishes.",
        ("<fig>", "761", "tokenizer"),
    ),
    Case(
        "merged_without_the_new_rows",
        merge_of(TOKENS, _without_rows),
        "A merging script of one's own adds the products of the factors and knows nothing of trained rows; the new "
        "tokens have the base's unused rows, and are not written. (unslothai/unsloth#1971)",
        ("lm_head", "embed_tokens", "761", "trainable_token", "<fig>"),
    ),
    Case(
        "merged_without_whole_modules",
        merge_of(OFFICIAL, merging(OFFICIAL)),
        "Only the factors were merged; the embeddings and the merger that were trained whole stayed the base's, and "
        "answers about pictures are wrong or in the base's style. (2U1/Qwen-VL-Series-Finetune#259)",
        ("merger", "embed_tokens", "modules_to_save", "linear_1"),
    ),
    Case(
        "saved_before_the_adapter_was_unloaded",
        merge_of(JSON, on_tensors(_as_saved_before_unloading), with_base=True),
        "The weights were gathered while PEFT's layers were in place, so that each adapted matrix is called "
        "base_layer and its real name is missing; those start at random. (huggingface/peft#2647)",
        ("base_layer", "q_proj", "missing", "unexpected", "gate_proj"),
    ),
    Case(
        "adapter_left_in_the_merged_folder",
        merge_of(JSON, _with_leftover_adapter),
        "The merged weights were saved over the folder of the adapter, whose files are still there; transformers "
        "mounts it on top, so that it counts twice or the base is asked for. (huggingface/peft#1381)",
        ("adapter_config", "adapter_model", "twice"),
    ),
    Case(
        "one_shard_from_before_the_merge",
        merge_of(JSON, _with_one_old_shard),
        "One of four shards was not overwritten when the merged model was copied to the server; its layers are the "
        "base's, and answers are half in the base's style.",
        ("model-00001", "layers.0", "layers.1", "partly", "not merged"),
    ),
    Case(
        "merged_where_attention_is",
        merge_of(JSON, merging(JSON, only=_of_attention)),
        "The merging script goes by a list of layer kinds in which those of the feed-forward part are missing, and "
        "drops their updates without a word; answers are the base's, or half of each.",
        ("mlp", "gate_proj", "down_proj", "partly", "not merged"),
    ),
    Case(
        "merged_and_its_adapter_mounted_again",
        _served_with_its_adapter,
        "The merged model is served with the adapter that it already contains, so that the update counts twice; "
        "answers break.",
        ("twice", "already", "merged into", "contains"),
    ),
    Case(
        "saved_by_the_language_model_alone",
        merge_of(JSON, all_of(merging(JSON), without_tensors("vision_tower", "merger.")), with_base=True),
        "The merge was loaded and saved as a language model, which keeps no picture part; loaded as a whole, its "
        "vision tower starts at random. (Blaizzy/mlx-vlm#1963)",
        ("vision_tower", "merger", "missing", "random"),
    ),
)
