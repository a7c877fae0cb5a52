"""MiniCPM-V 2.6, 4.0 and 4.5: ways in which an adapter of the official script fails.

Each function edits a copy of a tiny folder; only the check that it is registered with may find it.
"""

import shutil
from collections.abc import Mapping
from typing import Any

import torch

from service.demo import demo_root
from service.domain.minicpmv import MARKERS
from tests.audit.older_registry import LOOSE, ROWS, SAVED, TOWER_TABLE, broken, dropped, named, noise, saved
from tests.builders import PREFIX, Folders, edited_json, edited_tensors


@broken("saved_modules", "llm.model.embed_tokens", subject="adapter")
def embeddings_of_another_base(folders: Folders) -> None:
    saved(folders, noise, "embed_tokens")


@broken("saved_modules", "resampler.", "4.5", "adapter")
def resampler_of_another_base(folders: Folders) -> None:
    saved(folders, noise, "resampler")


@broken("saved_modules", "[2, 1, 0]", subject="adapter")
def tower_of_another_order_of_colours(folders: Folders) -> None:
    saved(folders, lambda one: one.flip(1) if one.dim() == 4 else one, "vpm")


@broken("saved_modules", "moved by", "4.5", "adapter")
def tower_with_positions_off_by_one(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        tensors[PREFIX + TOWER_TABLE] = tensors[PREFIX + TOWER_TABLE].roll(1, 0)


@broken("saved_modules", "opposite sign", "4.0", "adapter")
def norms_of_the_resampler_turned(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if "resampler.ln_" in one and one.endswith("weight")]:
            tensors[name] = -tensors[name]


@broken("finite_weights", "vpm.", "4.0", "adapter")
def tower_saved_as_zeros(folders: Folders) -> None:
    saved(folders, torch.zeros_like, "vpm")


@broken("saved_modules", LOOSE, subject="adapter")
def half_of_the_training_is_in_a_pickle(folders: Folders) -> None:
    dropped(folders, "vpm", "resampler")
    (folders.adapter / LOOSE).write_bytes(b"PK\x03\x04 never opened")


@broken("adapter_lineage", LOOSE, subject="adapter")
def all_whole_modules_are_in_a_pickle(folders: Folders) -> None:
    dropped(folders, *SAVED)
    (folders.adapter / LOOSE).write_bytes(b"PK\x03\x04 never opened")


@broken("adapter_lineage", "MiniCPM-o-2_6", subject="adapter", severity="warning")
def adapter_of_the_model_that_hears(folders: Folders) -> None:
    named(folders, "openbmb/MiniCPM-o-2_6")


@broken("adapter_lineage", "MiniCPM-V-4 ", "4.5", "adapter", "warning")
def adapter_of_4_on_4_5(folders: Folders) -> None:
    named(folders, "openbmb/MiniCPM-V-4")


@broken("adapter_lineage", "MiniCPM-Llama3-V-2_5", "2.6", "adapter", "warning")
def adapter_of_2_5_on_2_6(folders: Folders) -> None:
    named(folders, "openbmb/MiniCPM-Llama3-V-2_5")


@broken("adapter_applied", "resampler", subject="adapter")
def resampler_of_another_width(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if ".resampler." in one]:
            tensors[name] = noise(torch.empty([2 * size for size in tensors[name].shape]))


@broken("adapter_applied", "embed_tokens", "4.5", "adapter")
def embeddings_of_a_smaller_vocabulary(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        tensors[PREFIX + ROWS] = tensors[PREFIX + ROWS][:-20]


@broken("extra_tensors", "vpm", subject="adapter")
def tower_saved_but_for_a_layer(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if "vpm.encoder.layers.1." in one]:
            del tensors[name]


@broken("adapter_keys", "vpm.encoder.layers.2", "4.5", "adapter")
def tower_with_a_layer_more(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if "vpm.encoder.layers.1." in one]:
            tensors[name.replace("layers.1.", "layers.2.")] = tensors[name].clone()


@broken("adapter_keys", "MiniCPM-V 4.6 or later (modules model.language_model.,", "4.5", "adapter")
def adapter_of_the_newer_family(folders: Folders) -> None:
    for path in folders.adapter.iterdir():
        path.unlink()
    for path in (demo_root() / "adapters" / "official").iterdir():
        shutil.copy(path, folders.adapter / path.name)


@broken("special_ids", "</image>", "4.5", "adapter")
def adapter_with_the_tokens_of_the_language_model(folders: Folders) -> None:
    own_tokens(
        folders, {text: {"content": f"<|reserved_{text.strip('<>/')}{len(text)}|>"} for text in MARKERS.values()}
    )


@broken("special_ids", "<unk>", "2.6", "adapter")
def adapter_without_the_placeholder(folders: Folders) -> None:
    own_tokens(folders, {"<unk>": {"content": "<|reserved_0|>"}})


@broken("token_flags", "<image>", "4.5", "adapter")
def markers_of_the_adapter_are_ordinary_text(folders: Folders) -> None:
    own_tokens(folders, {text: {"special": False} for text in MARKERS.values()})


def own_tokens(folders: Folders, changes: Mapping[str, dict[str, Any]]) -> None:
    """Give the adapter the base's tokenizer, some of whose added tokens are otherwise."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(folders.base / name, folders.adapter / name)
    with edited_json(folders.adapter / "tokenizer.json") as document:
        document["added_tokens"] = [one | changes.get(one["content"], {}) for one in document["added_tokens"]]
    with edited_json(folders.adapter / "tokenizer_config.json") as document:
        for name in ("additional_special_tokens", "extra_special_tokens", "added_tokens_decoder", "unk_token"):
            document.pop(name, None)
