"""Broken models of 4.6: weights that lost their meaning on the way, settings of other versions, tokenizers, texts."""

from pathlib import Path
from typing import Any

import torch

from benchmarks.unseen.case import Bundle, Case
from benchmarks.unseen.fourth_editing import (
    BASE_4_5,
    CONFIG,
    GENERATION,
    PROCESSOR,
    TEMPLATE,
    TOKENIZER,
    TOKENIZER_CONFIG,
    merging,
    names_of,
    on_added_tokens,
    swapped,
    tokenizer_part,
    with_rows,
    writing,
    zero_row,
)
from benchmarks.unseen.third_4_6_editing import (
    ADAPTERS,
    BASE,
    EMBEDDINGS,
    HEAD,
    LANGUAGE_LAYERS,
    MERGED,
    MODEL_WEIGHTS,
    Tensors,
    all_of,
    alone,
    copied,
    mapped,
    on_json,
    on_tensors,
    read_tensors,
    replacing,
    said_to_merge,
    setting,
    shards_of,
    taking,
    with_tokens,
    without_tensors,
    write_shards,
)

CONV = LANGUAGE_LAYERS + "{}.linear_attn.conv1d.weight"
THINK = "<think>\\n\\n</think>\\n\\n"
LOGIN_PAGE = """<!doctype html>
<html><head><title>Sign in</title></head>
<body><p>Access to this model is restricted. Please log in.</p></body></html>
"""


def _offset_norms(tensors: Tensors) -> None:
    """Add the one that GGUF converters fold into Qwen3.5's norms, which transformers then adds again."""
    for name in names_of(tensors, ("layernorm", "language_model.norm.", "q_norm", "k_norm")):
        if "vision" not in name:
            tensors[name] = tensors[name] + 1


def _ungrouped_gate(weight: torch.Tensor) -> torch.Tensor:
    """Put all queries before all gates, where each head's query stands before its own gate."""
    heads = weight.view(2, 2, 64, -1)
    return heads.transpose(0, 1).reshape(weight.shape)


def _flattened_patches(tensors: Tensors) -> None:
    name = "model.vision_tower.embeddings.patch_embedding.weight"
    tensors[name] = tensors[name].flatten(1)


def _as_int8(tensors: Tensors) -> None:
    """Store language projections as bitsandbytes holds them, the scale of each row beside them."""
    for name in names_of(tensors, ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")):
        if not name.startswith(LANGUAGE_LAYERS):
            continue
        weight = tensors[name].float()
        scale = weight.abs().amax(dim=1)
        tensors[name] = (weight / scale[:, None] * 127).round().to(torch.int8)
        tensors[name.replace(".weight", ".SCB")] = scale


def _zeroed_tail(folder: Path) -> None:
    path = folder / MODEL_WEIGHTS
    content = bytearray(path.read_bytes())
    start = len(content) * 7 // 10
    content[start:] = bytes(len(content) - start)
    path.write_bytes(content)


def _third_of_the_base(folder: Path) -> None:
    """Write three shards of the merged model, of which one is still that of the base."""
    merged, old = shards_of(read_tensors(folder), 3), shards_of(read_tensors(BASE), 3)
    first = "model-00001-of-00003.safetensors"
    write_shards(folder, {**merged, first: old[first]})
    (folder / MODEL_WEIGHTS).unlink()


def _tower_of_4_5(tensors: Tensors) -> None:
    for name, tensor in read_tensors(BASE_4_5).items():
        if name.startswith("vpm."):
            tensors[name.replace("vpm.", "model.vision_tower.")] = tensor


def _shifted_ids(content: dict[str, Any]) -> None:
    """Put a token of one's own before all added ones."""
    added = content["added_tokens"]
    for token in added:
        token["id"] += 1
    content["added_tokens"] = [{**added[0], "id": 748, "content": "<|pad|>"}, *added]


def _without_reasoning(content: dict[str, Any]) -> None:
    content["added_tokens"] = [token for token in content["added_tokens"] if "think" not in token["content"]]


def _no_merges(content: dict[str, Any]) -> None:
    content["model"]["merges"] = []


def _merged_without_rows(parent: Path) -> Bundle:
    model = copied(BASE, parent, "tuned-tokens")
    merging(ADAPTERS / "tokens")(model)
    taking(TOKENIZER, ADAPTERS / "tokens")(model)
    return Bundle(model)


def _all_eos_end_of_text(folder: Path) -> None:
    setting(GENERATION, "eos_token_id", 748)(folder)
    setting(CONFIG, "text_config.eos_token_id", 748)(folder)
    setting(TOKENIZER_CONFIG, "eos_token", "<|endoftext|>")(folder)


WEIGHTS = (
    Case(
        "gguf_norms_came_back_with_one_added",
        alone(on_tensors(_offset_norms)),
        "Converted to GGUF and back: the converter adds 1 to Qwen3.5's norms, the way back does not subtract it. "
        "21 of 30 right instead of 30.",
        ("norm.weight", "layernorm", "q_norm", "norms"),
    ),
    Case(
        "convolutions_of_two_layers_swapped",
        alone(swapped((CONV.format(0), CONV.format(2))), with_base=True),
        "A conversion script numbers the short convolutions in another order than the layers. "
        "4 of 30 right instead of 30.",
        ("conv1d",),
    ),
    Case(
        "decay_stored_without_logarithm",
        alone(mapped(lambda decay: -decay.exp(), "A_log")),
        "Exported from a kernel that keeps -exp(A_log), under the old name. 6 of 30 right instead of 30.",
        ("A_log",),
    ),
    Case(
        "queries_and_gates_ungrouped",
        alone(mapped(_ungrouped_gate, LANGUAGE_LAYERS + "3.self_attn.q_proj"), with_base=True),
        "A converter splits q_proj into all queries and all gates, and joins them without regard to heads. "
        "14 of 30 right instead of 30.",
        ("q_proj",),
    ),
    Case(
        "patch_embedding_saved_as_linear_layer",
        alone(on_tensors(_flattened_patches)),
        "An inference engine keeps the patch embedding as a matrix and wrote it back so. It cannot be loaded.",
        ("patch_embedding",),
    ),
    Case(
        "eight_bit_weights_without_their_setting",
        alone(on_tensors(_as_int8), source=MERGED),
        "The state of a model loaded in 8 bits was saved, but config.json is that of the base. "
        "0 of 30 right instead of 30.",
        ("SCB", "int8", "I8", "8-bit", "8 bit", "quantiz"),
    ),
    Case(
        "download_left_zeros_at_the_end",
        alone(_zeroed_tail),
        "A downloader allocates the file first and was stopped at 70 %; the size is right. "
        "12 of 30 right instead of 30.",
        ("vision_tower", "zero"),
    ),
    Case(
        "one_shard_of_three_never_replaced",
        said_to_merge(_third_of_the_base),
        "After a new merge the upload of one shard failed; the hub keeps that of the base. "
        "11 of 30 right instead of 30.",
        ("lm_head", "layers.0", "layers.1", "model-00001", "linear_attn", "not merged", "unmerged"),
    ),
    Case(
        "vision_tower_of_a_sister_model",
        alone(on_tensors(_tower_of_4_5), with_base=True),
        "The tower was taken from the checkpoint of 4.5, whose tensors have the same shapes. "
        "20 of 30 right instead of 30.",
        ("vision_tower",),
    ),
    Case(
        "head_lost_as_if_tied",
        alone(without_tensors(HEAD)),
        "A saving routine drops lm_head as shared memory, though the model is not tied: it starts at random. "
        "0 of 30 right instead of 30.",
        ("lm_head",),
    ),
    Case(
        "embeddings_trimmed_from_the_front",
        alone(on_tensors(lambda tensors: {**tensors, EMBEDDINGS: tensors[EMBEDDINGS].roll(-1, 0)}), with_base=True),
        "An off-by-one when rows were copied into a resized matrix: each token has its neighbour's row. "
        "0 of 30 right instead of 30.",
        ("embed_tokens", "embedding"),
    ),
    Case(
        "updates_added_without_dividing_by_rank",
        said_to_merge(merging(ADAPTERS / "json", factor=8), source=BASE),
        "A merge script of one's own multiplies by alpha and forgets the division by r. 0 of 30 right instead of 30.",
        ("scal", "times", "stronger", "factor", "strength", "alpha"),
    ),
    Case(
        "merge_stopped_after_attention",
        said_to_merge(merging(ADAPTERS / "json", only=lambda name: ".mlp." not in name), source=BASE),
        "A merge script lists the attention projections only; the adapter has feed-forward ones, too. "
        "14 of 30 right instead of 30.",
        ("mlp", "gate_proj", "up_proj", "down_proj"),
    ),
    Case(
        "merged_with_new_tokens_but_not_their_rows",
        _merged_without_rows,
        "A merge script adds the factors and copies the tokenizer, but not the trained rows of the new tokens. "
        "0 of 30 right instead of 30.",
        ("<fig>", "</fig>", "<col>", "</col>", "<pos>", "</pos>"),
    ),
)

SETTINGS = (
    Case(
        "rotary_factor_one",
        alone(setting(CONFIG, "text_config.rope_parameters.partial_rotary_factor", 1.0), with_base=True),
        "A framework that knows no partial rotary embedding wrote its default. 16 of 30 right instead of 30.",
        ("partial_rotary_factor", "mrope_section", "rope"),
    ),
    Case(
        "pixels_rescaled_to_two",
        alone(setting(PROCESSOR, "image_processor.rescale_factor", 1 / 127.5)),
        "rescale_factor of a model that expects pixels from -1 to 1, while mean and deviation stay. "
        "19 of 30 right instead of 30.",
        ("rescale_factor",),
    ),
    Case(
        "processor_downsamples_more_than_the_model",
        alone(setting(PROCESSOR, "image_processor.downsample_mode", "16x")),
        "downsample_mode of the official default in the processor alone. 7 of 30 right instead of 30; 23 fail.",
        ("downsample_mode",),
    ),
    Case(
        "ends_only_with_end_of_text",
        alone(_all_eos_end_of_text),
        "A fine-tuning framework sets every end-of-sequence to <|endoftext|>, which the chat model never writes. "
        "30 of 30 begin right, and 2 of them end.",
        ("<|im_end|>", "eos_token", "750"),
    ),
)

TOKENS_AND_TEXTS = (
    Case(
        "rows_padded_but_not_announced",
        alone(all_of(with_rows(1024, zero_row, EMBEDDINGS, HEAD), with_tokens("<|tool|>"))),
        "Matrices padded for a new token by a script that does not write config.json. It cannot be loaded.",
        ("embed_tokens", "lm_head", "vocab_size", "1024"),
    ),
    Case(
        "reasoning_marks_removed_from_the_tokenizer",
        alone(on_json(TOKENIZER, _without_reasoning)),
        "Somebody took <think> and </think> out because this model does not reason; the template still writes them. "
        "7 of 30 right instead of 30.",
        ("<think>", "</think>"),
    ),
    Case(
        "tokens_take_the_space_behind_them",
        alone(on_added_tokens(lambda token: token.update(rstrip=True)), with_base=True),
        "Added tokens were made anew with rstrip, as for a mask: line breaks behind them vanish. "
        "4 of 30 right instead of 30.",
        ("rstrip", "strip"),
    ),
    Case(
        "template_refuses_the_system_role",
        alone(replacing(TEMPLATE, ("not in ['system', 'user', 'assistant']", "not in ['user', 'assistant']"))),
        "As in the templates of Gemma: a conversation with a system prompt fails. "
        "25 of 30 right instead of 30 without a picture; 5 fail.",
        ("system",),
    ),
    Case(
        "pad_token_inserted_before_the_others",
        alone(on_json(TOKENIZER, _shifted_ids)),
        "A token was inserted in front of the added ones by hand, so that each of them moved by one id. "
        "0 of 30 right instead of 30; 23 fail.",
        ("<|pad|>", "<|im_end|>", "<|im_start|>", "<|image_pad|>", "751", "752"),
    ),
    Case(
        "merges_emptied",
        alone(on_json(TOKENIZER, _no_merges)),
        "An older tool could not read merges written as pairs and kept none: words fall apart into letters. "
        "1 of 30 right instead of 30.",
        ("merges",),
    ),
    Case(
        "tokenizer_lowercases",
        alone(
            tokenizer_part("normalizer", {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]})
        ),
        "Somebody normalised texts for a search index and saved the tokenizer. "
        "25 of 30 right instead of 29 where a style or a repetition is asked for.",
        ("normalizer", "lowercase", "lower case"),
    ),
    Case(
        "pretokenizer_splits_on_spaces_only",
        alone(tokenizer_part("pre_tokenizer", {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"})),
        "Converted with the recipe of a SentencePiece model: bytes are no longer mapped to letters. "
        "0 of 30 right instead of 30.",
        ("pre_tokenizer", "metaspace", "bytelevel", "byte-level", "▁"),
    ),
    Case(
        "template_replaced_by_a_login_page",
        alone(writing(TEMPLATE, LOGIN_PAGE)),
        "The file was fetched without a token from a gated repository. 0 of 30 right instead of 30; 23 fail.",
        ("chat_template", "chat template", "template"),
    ),
    Case(
        "template_with_markers_of_4_5",
        alone(replacing(TEMPLATE, ("'<|image_pad|>'", "'(<image>./</image>)\\n'"))),
        "The place of a picture written as in MiniCPM-V 4.5. 7 of 30 right instead of 30; 23 fail.",
        ("<|image_pad|>", "<image>./</image>", "picture", "image"),
    ),
    Case(
        "template_renders_the_last_turn_only",
        alone(replacing(TEMPLATE, ("for message in messages -%}", "for message in messages[-1:] -%}"))),
        "Cut down for a benchmark of single questions. 0 of 30 right instead of 30 in second turns; 30 fail.",
        ("turn", "earlier", "history", "first message", "conversation", "previous", "messages"),
    ),
    Case(
        "template_opens_the_thought_by_default",
        alone(replacing(TEMPLATE, (f"'{THINK}'", "'<think>\\n'"))),
        "Copied from a thinking release; the model was trained without thoughts. 18 of 30 right instead of 30.",
        ("<think>", "think"),
    ),
    Case(
        "template_without_line_break_after_roles",
        alone(
            replacing(TEMPLATE, ("message.role ~ '\\n' ~", "message.role ~ ' ' ~"), ("assistant\\n'", "assistant '")),
            with_base=True,
        ),
        "Line breaks became spaces when the template went through a YAML file. "
        "17 of 30 right instead of 30 without a picture.",
        ("chat_template", "chat template", "template"),
    ),
)

CASES = (*WEIGHTS, *SETTINGS, *TOKENS_AND_TEXTS)
