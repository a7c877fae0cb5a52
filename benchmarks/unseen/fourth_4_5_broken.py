"""Broken folders in the layout of 4.5: official names and numbers, its resampler, its template, its adapter."""

import torch

from benchmarks.unseen.case import Case
from benchmarks.unseen.fourth_editing import (
    ADAPTERS_4_5,
    CONFIG,
    GENERATION,
    PREPROCESSOR,
    TOKENIZER,
    TOKENIZER_CONFIG,
    adapted_4_5,
    alone_4_5,
    mean_row,
    merging,
    on_tensor,
    said_to_merge_4_5,
)
from benchmarks.unseen.third_4_6_editing import (
    Tensors,
    all_of,
    mapped,
    on_tensors,
    setting,
    sharded,
    with_tokens,
    without_files,
    without_setting,
)

LAYERS, EMBEDDINGS, HEAD = "llm.model.layers.", "llm.model.embed_tokens.weight", "llm.lm_head.weight"
PICTURE_ROWS = [758, 759]
"""Of <image> and </image>."""
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + "
    "'\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def _text_model_alone(tensors: Tensors) -> Tensors:
    return {name.removeprefix("llm."): tensor for name, tensor in tensors.items() if name.startswith("llm.")}


def _head_of_embeddings(tensors: Tensors) -> None:
    tensors[HEAD] = tensors[EMBEDDINGS].clone()


def _second_layer_twice(tensors: Tensors) -> None:
    for name in [name for name in tensors if name.startswith(LAYERS + "1.")]:
        tensors[name.replace(LAYERS + "1.", LAYERS + "2.")] = tensors[name]


def _interleaved(weight: torch.Tensor) -> torch.Tensor:
    """Order each head's rows as llama.cpp does for Llama: the halves of the rotary embedding by turns."""
    return weight.view(-1, 2, 32, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


def _restarted_rows(tensors: Tensors) -> None:
    for name in (EMBEDDINGS, HEAD):
        tensors[name][PICTURE_ROWS] = mean_row(tensors[name])


WEIGHTS = (
    Case(
        "projection_of_the_resampler_transposed",
        alone_4_5(on_tensor("resampler.proj", lambda weight: weight.T), with_base=True),
        "A converter took the bare parameter for the weight of a linear layer; it is square, so that it fits. "
        "13 of 30 right instead of 30.",
        ("resampler.proj",),
    ),
    Case(
        "exported_as_text_model",
        alone_4_5(on_tensors(_text_model_alone)),
        "A text-only framework wrote its Qwen3 with this folder's config.json. It cannot be loaded.",
        ("llm.", "vpm", "resampler", "model.layers"),
    ),
    Case(
        "head_overwritten_by_embeddings",
        alone_4_5(on_tensors(_head_of_embeddings)),
        "tie_weights() was called before saving, though the model is not tied. 0 of 30 right instead of 30.",
        ("lm_head", "tie", "tied"),
    ),
    Case(
        "third_layer_is_a_copy_of_the_second",
        alone_4_5(on_tensors(_second_layer_twice)),
        "A script that gathers pipeline stages counts one layer twice. 25 of 30 right instead of 30.",
        ("layers.2", "layers.1"),
    ),
    Case(
        "queries_and_keys_in_the_order_of_llama_cpp",
        alone_4_5(
            mapped(_interleaved, *(f"{LAYERS}{layer}.self_attn.{kind}_proj" for layer in range(4) for kind in "qk")),
            with_base=True,
        ),
        "The order of Llama's rotary embedding was put on queries and keys, and never taken back. "
        "14 of 30 right instead of 30.",
        ("q_proj", "k_proj"),
    ),
    Case(
        "rows_of_picture_markers_restarted",
        alone_4_5(on_tensors(_restarted_rows)),
        "A script adds <image> and </image> as if they were new, and gives them the mean of all rows. "
        "13 of 30 right instead of 30.",
        ("<image>", "</image>", "758", "759"),
    ),
    Case(
        "merged_without_its_whole_modules",
        said_to_merge_4_5(merging(ADAPTERS_4_5 / "official")),
        "A merge script of one's own knows factors but not modules_to_save. 23 of 30 right instead of 28.",
        ("vpm", "resampler", "embed_tokens", "modules_to_save"),
    ),
)

FILES = (
    Case(
        "third_shard_not_uploaded",
        alone_4_5(all_of(sharded(4), without_files("model-00003-of-00004.safetensors"))),
        "The upload of one shard failed; the index names it. It cannot be loaded.",
        ("model-00003",),
    ),
    Case(
        "template_lost_when_saved_anew",
        alone_4_5(
            all_of(
                without_setting(TOKENIZER_CONFIG, "chat_template"),
                without_files("vocab.json", "merges.txt", "added_tokens.json", "special_tokens_map.json"),
            )
        ),
        "Saved by transformers 5, which writes the template to a file of its own; that file was not uploaded. "
        "0 of 30 right instead of 30; 30 fail.",
        ("chat_template", "chat template", "template"),
    ),
)

SETTINGS = (
    Case(
        "last_layer_of_the_tower_dropped",
        alone_4_5(setting(CONFIG, "drop_vision_last_layer", value=True)),
        "config.json of an older release, which has one layer less. It cannot be loaded.",
        ("drop_vision_last_layer", "vpm.encoder.layers.3"),
    ),
    Case(
        "places_for_sixty_four_features",
        alone_4_5(setting(PREPROCESSOR, "image_feature_size", 64)),
        "preprocessor_config.json of the official release; this model has fewer queries. "
        "7 of 30 right instead of 30; 23 fail.",
        ("image_feature_size", "query_num"),
    ),
    Case(
        "pictures_of_the_official_size",
        alone_4_5(setting(PREPROCESSOR, "scale_resolution", 448)),
        "scale_resolution of the official release; the tower was trained on smaller pictures. "
        "17 of 30 right instead of 30.",
        ("scale_resolution", "448"),
    ),
    Case(
        "pixels_from_zero_to_one",
        alone_4_5(
            all_of(
                setting(PREPROCESSOR, "norm_mean", [0.0, 0.0, 0.0]), setting(PREPROCESSOR, "norm_std", [1.0, 1.0, 1.0])
            )
        ),
        "Mean and deviation of an image pipeline that does not normalise. 19 of 30 right instead of 30.",
        ("norm_mean", "norm_std"),
    ),
    Case(
        "rope_theta_of_qwen2",
        alone_4_5(setting(CONFIG, "rope_theta", 10_000), with_base=True),
        "A framework rebuilt config.json from its defaults. 17 of 30 right instead of 30.",
        ("rope_theta",),
    ),
    Case(
        "stop_ids_of_the_official_vocabulary",
        alone_4_5(setting(GENERATION, "eos_token_id", [151645, 151643])),
        "generation_config.json of the official release; no such id exists here. "
        "30 of 30 begin right, and none of them ends.",
        ("151645", "151643", "eos_token_id"),
    ),
    Case(
        "tools_added_beyond_the_rows",
        alone_4_5(with_tokens("<tools>", "</tools>", special=False)),
        "Tokens for tools were added, and the matrices not resized; a prompt with one of them fails. "
        "0 of 20 right instead of 19 with such a token in the system prompt.",
        ("<tools>", "</tools>", "790", "791"),
    ),
    Case(
        "template_of_plain_chatml",
        alone_4_5(setting(TOKENIZER_CONFIG, "chat_template", CHATML)),
        "A fine-tuning framework wrote its own ChatML template, without the closed thought. "
        "79 of 100 right instead of 98.",
        ("<think>", "think"),
    ),
)

ADAPTERS = (
    Case(
        "tokenizer_saved_anew_by_a_converter",
        adapted_4_5(
            setting(
                TOKENIZER,
                "pre_tokenizer",
                {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": False},
            )
        ),
        "The tokenizer was saved anew by a converter that knows neither the pattern nor that there is no first space. "
        "16 of 30 right instead of 28.",
        ("pre_tokenizer", "prefix", "tokenizer"),
    ),
)

CASES = (*WEIGHTS, *FILES, *SETTINGS, *ADAPTERS)
