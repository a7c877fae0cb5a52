"""Broken merges, and adapters mounted on the merge of another."""

from collections.abc import Collection
from pathlib import Path

import torch

from benchmarks.unseen.case import Bundle, Case
from benchmarks.unseen.third_4_6_editing import (
    ADAPTERS,
    BASE,
    EMBEDDINGS,
    HEAD,
    MERGED,
    MODEL_WEIGHTS,
    Edit,
    Make,
    copied,
    deltas,
    merge_into,
    read_tensors,
    said_to_merge,
    shards_of,
    taking,
    write_rows,
    write_shards,
    write_tensors,
)


def merge(adapter: str = "json", factor: float = 1.0, layers: Collection[int] = range(4)) -> Edit:
    """Replace a model's weights by a merge into the demo's base."""

    def edit(folder: Path) -> None:
        tensors = read_tensors(BASE)
        chosen = tuple(f".layers.{layer}." for layer in layers)
        updates = deltas(ADAPTERS / adapter)
        merge_into(
            tensors, {name: one for name, one in updates.items() if any(part in name for part in chosen)}, factor
        )
        write_tensors(folder, tensors)

    return edit


def merged_tokens(trained: Collection[str], *, with_tokenizer: bool = True) -> Make:
    """Make a case of the adapter `tokens` merged into the base, with the trained rows of the matrices named."""

    def make(parent: Path) -> Bundle:
        model = copied(BASE, parent, "tokens-merged")
        tensors = read_tensors(model)
        plain: dict[str, torch.Tensor] = {name: tensors[name].clone() for name in (EMBEDDINGS, HEAD)}
        merge_into(tensors, deltas(ADAPTERS / "tokens"))
        write_rows(tensors)
        tensors |= {name: rows for name, rows in plain.items() if name not in trained}
        write_tensors(model, tensors)
        for file in ("tokenizer.json", "tokenizer_config.json") if with_tokenizer else ():
            taking(file, ADAPTERS / "tokens")(model)
        return Bundle(model)

    return make


def _merge_again(folder: Path) -> None:
    tensors = read_tensors(folder)
    merge_into(tensors, deltas())
    write_tensors(folder, tensors)


def _keep_plain(folder: Path) -> None:
    taking(MODEL_WEIGHTS, BASE)(folder)


def _upload_half(folder: Path) -> None:
    """The first shard is the base's, under the same name."""
    old, new = shards_of(read_tensors(BASE), 3), shards_of(read_tensors(MERGED), 3)
    write_shards(folder, new | dict(list(old.items())[:1]))
    (folder / MODEL_WEIGHTS).unlink()


def _on_merged(adapter: str) -> Make:
    def make(parent: Path) -> Bundle:
        return Bundle(copied(MERGED, parent, "tuned-json"), {adapter: copied(ADAPTERS / adapter, parent)}, base=BASE)

    return make


CASES = (
    Case(
        "merged_into_its_own_merge",
        said_to_merge(_merge_again),
        "The merge script ran twice on the same folder: every update is in twice. 1 of 36 right instead of 36.",
        ("twice", "merge", "q_proj", "in_proj", "mlp"),
    ),
    Case(
        "merged_by_half",
        said_to_merge(merge(factor=0.5)),
        "Merged by hand with alpha over rank of another run: every update is in by half. 23 of 36 right instead of 36.",
        ("merge", "scale", "factor", "q_proj", "in_proj", "mlp"),
    ),
    Case(
        "merge_never_saved",
        said_to_merge(_keep_plain),
        "merge_and_unload returns the merged model; the script saved the other one: plain answers, 0 of 36 right "
        "instead of 36.",
        ("merge", "unchanged", "q_proj", "in_proj", "mlp"),
    ),
    Case(
        "one_shard_not_uploaded_anew",
        said_to_merge(_upload_half),
        "The upload of the merge left one of three shards as it was before, the base's: 10 of 36 right instead of 36.",
        ("layers.0", "layers.1", "layers.2", "lm_head", "model-00001-of-00003"),
    ),
    Case(
        "merged_without_trained_rows",
        merged_tokens(()),
        "Merged by hand from lora_A and lora_B alone: the rows of the added tokens stay untrained, and they are never "
        "written. 0 of 36 right instead of 36.",
        ("<fig>", "</fig>", "<col>", "</col>", "<pos>", "</pos>", "761"),
    ),
    Case(
        "merged_without_the_tokenizer",
        merged_tokens((EMBEDDINGS, HEAD), with_tokenizer=False),
        "The merge was saved with the base's tokenizer: the ids of the trained tokens are answered as nothing. 0 of "
        "36 right instead of 36.",
        ("761", "766", "tokenizer"),
    ),
    Case(
        "mounted_on_its_own_merge",
        _on_merged("json"),
        "The adapter is served on the model that it was merged into already. The base is known. 1 of 36 right instead "
        "of 36.",
        ("merge", "twice", "already", "another base"),
    ),
    Case(
        "mounted_on_the_merge_of_another",
        _on_merged("official"),
        "The adapter was trained on the base, and is served on the merge of another. The base is known. 0 of 36 right "
        "instead of 34.",
        ("merge", "another base", "tuned on"),
    ),
)
