"""Merges of adapters that went wrong, over both demos."""

import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

from benchmarks.unseen.case import Case
from benchmarks.unseen.fourth_editing import BASE_4_5, CONFIG, GENERATION, TOKENIZER_CONFIG, merging
from benchmarks.unseen.sixth_adapters_editing import (
    OFFICIAL_4_5,
    merge_of,
    merge_tokens,
    whole_merge,
    with_saved_modules,
    with_texts_of,
)
from benchmarks.unseen.third_4_6_editing import (
    ADAPTER_WEIGHTS,
    ADAPTERS,
    BASE,
    MODEL_WEIGHTS,
    Tensors,
    all_of,
    deltas,
    merge_into,
    on_tensors,
    said_to_merge,
    setting,
    without_tensors,
)

KINDS_OF_4_5 = ("q_proj", "k_proj")


def save_wrapped(folder: Path) -> None:
    """Save the state of the model with the adapter mounted in place of a merge."""
    targets = {name.removesuffix(".weight") for name in deltas()}
    tensors = load_file(folder / MODEL_WEIGHTS)
    wrapped = {
        "base_model.model." + (name.replace(".weight", ".base_layer.weight") if stem in targets else name): one
        for name, one in tensors.items()
        for stem in (name.removesuffix(".weight"),)
    }
    factors = load_file(ADAPTERS / "json" / ADAPTER_WEIGHTS)
    wrapped |= {name.replace(".weight", ".default.weight"): one for name, one in factors.items()}
    save_file(wrapped, folder / MODEL_WEIGHTS, metadata={"format": "pt"})


def merge_into_checkpoint(folder: Path) -> None:
    """Write the merge where the adapter's files already lie."""
    for file in ("adapter_config.json", ADAPTER_WEIGHTS):
        shutil.copyfile(ADAPTERS / "json" / file, folder / file)


def head_tied(folder: Path) -> None:
    """Leave out the head, and say that the embeddings are it."""
    without_tensors("lm_head")(folder)
    setting(CONFIG, "tie_word_embeddings", value=True)(folder)


def order_for_gguf(tensors: Tensors) -> None:
    """Order the rows of queries and keys as llama.cpp keeps those of Llama."""
    for name in [one for one in tensors if any(f"{kind}.weight" in one for kind in KINDS_OF_4_5) and "llm." in one]:
        old = tensors[name]
        tensors[name] = old.reshape(-1, 2, 32, old.shape[1]).transpose(1, 2).reshape(old.shape)


def rows_into_embeddings_only(tensors: Tensors) -> None:
    """Merge the adapter `tokens`, but leave the head's rows as they were."""
    merge_into(tensors, deltas(ADAPTERS / "tokens"))
    rows = load_file(ADAPTERS / "tokens" / ADAPTER_WEIGHTS)
    for name, one in rows.items():
        if "embed_tokens.token_adapter" in name:
            tensors["model.language_model.embed_tokens.weight"][761:767] = one


CASES: tuple[Case, ...] = (
    Case(
        "alpha_not_divided_by_rank",
        merge_of(merging(ADAPTERS / "json", 8.0)),
        "A merge script multiplies by alpha and forgets to divide by the rank: each update is eight times too strong "
        "and answers are garbage (Blaizzy/mlx-vlm#841).",
        ("alpha", "scal", "_proj", "times"),
    ),
    Case(
        "tokens_merged_with_old_tokenizer",
        merge_of(all_of(merge_tokens, with_texts_of(BASE)), ADAPTERS / "tokens"),
        "The merge script saves the base's tokenizer instead of the adapter's: the ids that the model was taught to "
        "write have no text and answers lose their markup.",
        ("<fig>", "<pos>", "<col>", "tokenizer.json"),
    ),
    Case(
        "state_dict_with_the_adapter_mounted",
        merge_of(save_wrapped),
        "Saved from the PEFT model without `merge_and_unload`: names have `base_model.model.` and `base_layer` in "
        "them, no weight is found, and the model starts at random.",
        ("base_layer", "base_model", "missing", "unexpected", "lora_A"),
    ),
    Case(
        "merged_stops_like_raw_text",
        said_to_merge(
            all_of(
                setting(GENERATION, "eos_token_id", 748),
                setting(CONFIG, "text_config.eos_token_id", 748),
                setting(TOKENIZER_CONFIG, "eos_token", "<|endoftext|>"),
            )
        ),
        "The merge overwrites the end of turn with the end of text of the raw model everywhere; the model writes "
        "<|im_end|>, nobody stops it, and answers run to the limit (unslothai/unsloth#5386).",
        ("eos_token", "<|im_end|>", "eos_token_id", "<|endoftext|>"),
    ),
    Case(
        "merged_into_the_adapters_folder",
        said_to_merge(merge_into_checkpoint),
        "The merge was written into the checkpoint folder of the adapter: transformers sees adapter_config.json "
        "beside the model and mounts the adapter a second time (huggingface/peft#1381).",
        ("adapter_config.json", "adapter_model.safetensors"),
    ),
    Case(
        "rows_merged_into_embeddings_only",
        merge_of(
            all_of(on_tensors(rows_into_embeddings_only), with_texts_of(ADAPTERS / "tokens")), ADAPTERS / "tokens"
        ),
        "A merge by hand knew the trained rows of the embeddings but not those of the head: the model reads the new "
        "tokens and cannot write them.",
        ("lm_head", "761", "<fig>", "rows"),
    ),
    Case(
        "saved_modules_not_merged",
        merge_of(merging(OFFICIAL_4_5), OFFICIAL_4_5, BASE_4_5),
        "The merge adds the factors and leaves out modules_to_save: tower, resampler and embeddings stay the base's "
        "and answers lose what was learnt there (unslothai/unsloth-zoo#369).",
        ("vpm", "resampler", "embed_tokens", "modules_to_save"),
    ),
    Case(
        "rows_in_the_order_of_gguf",
        merge_of(all_of(whole_merge(OFFICIAL_4_5), on_tensors(order_for_gguf)), OFFICIAL_4_5, BASE_4_5),
        "Merged, converted to GGUF and back: rows of queries and keys keep the order that the converter gives those "
        "of Llama, rotations meet the wrong rows, and answers are garbage.",
        ("q_proj", "k_proj", "self_attn"),
    ),
    Case(
        "head_tied_by_the_export",
        merge_of(all_of(whole_merge(OFFICIAL_4_5), head_tied), OFFICIAL_4_5, BASE_4_5),
        "The export takes the head for a copy of the embeddings, drops it, and sets `tie_word_embeddings`: logits "
        "come from another matrix and answers are garbage.",
        ("lm_head", "tie_word_embeddings", "tied"),
    ),
    Case(
        "factors_at_half_weight",
        merge_of(all_of(merging(OFFICIAL_4_5, 0.5), with_saved_modules(OFFICIAL_4_5)), OFFICIAL_4_5, BASE_4_5),
        "Combined with a weight of 0.5 as in the example for two adapters, though there is one: updates are half as "
        "large as trained beside saved modules that are whole.",
        ("self_attn", "half", "scal", "proj"),
    ),
)
