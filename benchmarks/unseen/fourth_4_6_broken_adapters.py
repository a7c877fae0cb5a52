"""Broken adapters of 4.6: what saving scripts lose or rename, settings that leave factors out, and the wrong base."""

from pathlib import Path
from typing import Any

import torch

from benchmarks.unseen.case import Bundle, Case
from benchmarks.unseen.fourth_editing import ADAPTER_CONFIG, ADAPTERS_4_5, TEMPLATE, TOKENIZER
from benchmarks.unseen.third_4_6_editing import (
    ADAPTERS,
    BASE,
    LANGUAGE_LAYERS,
    MERGED,
    Tensors,
    adapted,
    all_of,
    copied,
    halve_ranks_of_mlp,
    mapped,
    on_json,
    on_tensors,
    renamed,
    replacing,
    setting,
    without_files,
    without_tensors,
)

PREFIX = "base_model.model."


def _empty(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.new_empty(0)


def _one_infinite(tensor: torch.Tensor) -> torch.Tensor:
    spoilt = tensor.clone()
    spoilt[0, 0] = torch.inf
    return spoilt


def _flat_magnitudes(tensors: Tensors) -> None:
    """Give each factor a magnitude of ones, as where they were taken before the base was loaded."""
    for name in [name for name in tensors if "lora_B" in name]:
        tensors[name.replace("lora_B.weight", "lora_magnitude_vector")] = torch.ones(len(tensors[name]))


def _only_embedding_rows(content: dict[str, Any]) -> None:
    del content["trainable_token_indices"]["lm_head"]


def _later_ids(content: dict[str, Any]) -> None:
    """Put two tokens of one's own before the trained ones."""
    added = content["added_tokens"]
    for token in added:
        if token["id"] > 760:
            token["id"] += 2
    own = [{**added[-1], "id": 761 + number, "content": f"<|own_{number}|>"} for number in range(2)]
    content["added_tokens"] = sorted([*added, *own], key=lambda token: int(token["id"]))


def _sound_and_without_head_rows(parent: Path) -> Bundle:
    sound, spoilt = copied(ADAPTERS / "json", parent), copied(ADAPTERS / "tokens", parent)
    all_of(on_json(ADAPTER_CONFIG, _only_embedding_rows), without_tensors("lm_head"))(spoilt)
    return Bundle(BASE, {"json": sound, "tokens": spoilt})


def _on_its_own_merge(parent: Path) -> Bundle:
    return Bundle(copied(MERGED, parent), {"json": copied(ADAPTERS / "json", parent)}, base=BASE)


def _of_another_release(parent: Path) -> Bundle:
    return Bundle(BASE, {"official": copied(ADAPTERS_4_5 / "official", parent)})


SAVED = (
    Case(
        "factors_of_the_last_layer_lost",
        adapted(without_tensors(LANGUAGE_LAYERS + "3.")),
        "A pipeline stage did not write its part; the settings do not restrict the layers. "
        "13 of 30 right instead of 30.",
        ("layers.3", "layer 3"),
    ),
    Case(
        "one_of_two_adapters_lost_rows_of_the_head",
        _sound_and_without_head_rows,
        "trainable_token_indices named the embeddings only, though the head is not tied to them. "
        "30 of 30 right instead of 30 with json, 0 of 30 right instead of 30 with tokens.",
        ("<fig>", "</fig>", "<col>", "</col>", "<pos>", "</pos>", "lm_head"),
    ),
    Case(
        "sharded_optimizer_saved_empty_factors",
        adapted(mapped(_empty, "lora_")),
        "Saved under DeepSpeed ZeRO-3 without gathering: every tensor has no element. It cannot be loaded.",
        ("empty", "(0,)", "[0]", "0 elements", "shape"),
    ),
    Case(
        "names_of_the_compiled_model",
        adapted(renamed(lambda name: name.replace(PREFIX, PREFIX + "_orig_mod."))),
        "The state of a model under torch.compile was saved. 0 of 30 right instead of 30.",
        ("_orig_mod",),
    ),
    Case(
        "names_of_the_text_model",
        adapted(renamed(lambda name: name.replace("model.language_model.layers", "model.layers"))),
        "Trained on the extracted language model, whose layers have shorter names. 0 of 30 right instead of 30.",
        ("model.layers", "language_model"),
    ),
    Case(
        "an_infinite_element",
        adapted(mapped(_one_infinite, "layers.3.mlp.down_proj.lora_B")),
        "An overflow in the last step of training in float16. 0 of 30 right instead of 30.",
        ("down_proj", "inf", "finite"),
    ),
    Case(
        "learning_rate_far_too_small",
        adapted(mapped(lambda factor: factor * 1e-4, "lora_B")),
        "2e-8 instead of 2e-4: the second factors hardly left zero. 0 of 30 right instead of 30.",
        ("lora_B", "hardly", "barely", "no effect", "does nothing", "changes nothing", "untrained", "not trained"),
    ),
    Case(
        "new_tokens_without_their_tokenizer",
        adapted(without_files(TOKENIZER, "tokenizer_config.json", TEMPLATE), adapter="tokens"),
        "Only the two files of PEFT were uploaded: the trained rows belong to ids that no token has. "
        "0 of 30 right instead of 30.",
        ("761", "762", "766", "tokenizer", "trainable_token_indices"),
    ),
    Case(
        "merger_not_saved",
        adapted(without_tensors("merger"), adapter="official"),
        "The saving function filters for lora and embed; config still says that the merger was trained. "
        "It cannot be loaded.",
        ("merger", "modules_to_save"),
    ),
)

SETTINGS = (
    Case(
        "only_the_last_layer_transformed",
        adapted(setting(ADAPTER_CONFIG, "layers_to_transform", [3])),
        "Left from an experiment; PEFT leaves the factors of all other layers out. 15 of 30 right instead of 30.",
        ("layers_to_transform", "layers.0", "layers.1", "layers.2"),
    ),
    Case(
        "ranks_of_modules_no_longer_found",
        adapted(
            all_of(
                halve_ranks_of_mlp,
                setting(ADAPTER_CONFIG, "rank_pattern", {"model.layers.0.mlp.gate_proj": 4}),
            )
        ),
        "Compressed by module, and rank_pattern lost all but an outdated entry. It cannot be loaded.",
        ("rank_pattern", "gate_proj", "up_proj", "down_proj"),
    ),
    Case(
        "magnitudes_taken_before_the_base_was_loaded",
        adapted(all_of(on_tensors(_flat_magnitudes), setting(ADAPTER_CONFIG, "use_dora", value=True))),
        "DoRA set up on empty weights: every magnitude is one. 0 of 30 right instead of 30.",
        ("magnitude", "dora"),
    ),
    Case(
        "tokenizer_has_two_tokens_before_the_trained",
        adapted(on_json(TOKENIZER, _later_ids), adapter="tokens"),
        "Tokens were added to the saved tokenizer before those that were trained, whose ids moved. "
        "0 of 30 right instead of 30.",
        ("<fig>", "</fig>", "<pos>", "</pos>", "<|own_0|>", "<|own_1|>", "trainable_token_indices"),
    ),
    Case(
        "template_without_the_closed_thought",
        adapted(replacing(TEMPLATE, ("<think>\\n\\n</think>\\n\\n", "")), adapter="tokens"),
        "The framework's plain ChatML template, saved with an adapter that was trained with the model's own. "
        "1 of 30 right instead of 30.",
        ("<think>", "think"),
    ),
)

BASES = (
    Case(
        "served_on_the_model_it_was_merged_into",
        _on_its_own_merge,
        "The operator points to the merged model and gives the adapter again. 2 of 30 right instead of 30.",
        ("twice", "already", "merged"),
    ),
    Case(
        "adapter_of_the_other_release",
        _of_another_release,
        "The adapter of 4.5 given with the base of 4.6. It cannot be loaded.",
        ("llm", "base_model", "minicpm-demo-4.5", "MiniCPMV", "vpm", "resampler"),
    ),
)

CASES = (*SAVED, *SETTINGS, *BASES)
