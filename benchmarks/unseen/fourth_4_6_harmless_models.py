"""Sound models of 4.6 that look suspicious: other layouts, precisions, spare rows, texts and leftovers."""

import json
from pathlib import Path
from typing import Any

import torch

from benchmarks.unseen.case import Bundle, Case
from benchmarks.unseen.fourth_editing import (
    CONFIG,
    GENERATION,
    PROCESSOR,
    TEMPLATE,
    TOKENIZER,
    TOKENIZER_CONFIG,
    mean_row,
    names_of,
    noise,
    to_type,
    trainer_leftovers,
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
    Tensors,
    all_of,
    alone,
    copied,
    deltas,
    mapped,
    merge_into,
    on_json,
    on_tensors,
    read_json,
    read_tensors,
    replacing,
    said_to_merge,
    setting,
    sharded,
    taking,
    with_tokens,
    write_json,
    write_rows,
    write_tensors,
)

TOOLS_TEMPLATE = """\
{#- Formatted by hand; the same text as before. Tools are described in the system turn. -#}
{%- if tools is defined and tools -%}
    {{- '<|im_start|>system\\nYou may call: ' ~ (tools | tojson) ~ '<|im_end|>\\n' -}}
{%- endif -%}
{%- for turn in messages -%}
    {{- '<|im_start|>' + turn['role'] + '\\n' -}}
    {%- if turn['content'] is string -%}
        {{- turn['content'] -}}
    {%- else -%}
        {%- for part in turn['content'] -%}
            {%- if part['type'] in ('image', 'image_url') -%}
                {{- '<|image_pad|>' -}}
            {%- elif part['type'] == 'video' -%}
                {{- '<|video_pad|>' -}}
            {%- elif part['text'] -%}
                {{- part['text'] -}}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\\n<think>\\n' ~ ('' if enable_thinking else '\\n</think>\\n\\n') -}}
{%- endif -%}
"""


def _template_in_tokenizer_config(folder: Path) -> None:
    text = (folder / TEMPLATE).read_text(encoding="utf-8")
    setting(TOKENIZER_CONFIG, "chat_template", text)(folder)
    (folder / TEMPLATE).unlink()


def _merges_as_text(content: dict[str, Any]) -> None:
    content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]


def _vocabulary_as_files(folder: Path) -> None:
    model = read_json(folder / TOKENIZER)["model"]
    write_json(folder / "vocab.json", model["vocab"])
    lines = ["#version: 0.2", *(" ".join(pair) for pair in model["merges"])]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _tuned_a_little(tensors: Tensors) -> None:
    for seed, name in enumerate(sorted(tensors)):
        tensors[name] = (tensors[name].float() + noise(tensors[name], 0.01, seed).nan_to_num()).to(torch.bfloat16)


def _eight_bits_and_back(weight: torch.Tensor) -> torch.Tensor:
    """Round each row to 8 bits, as a merge into a quantised and dequantised base does."""
    if weight.ndim != 2:
        return weight
    scale = weight.float().abs().amax(dim=1, keepdim=True).clamp(min=1e-8) / 127
    return ((weight.float() / scale).round() * scale).to(weight.dtype)


def _extra_tensors(tensors: Tensors) -> None:
    """Add what releases of Qwen3.5 carry to predict several tokens, and a buffer that older versions saved."""
    for name in names_of(tensors, (LANGUAGE_LAYERS + "3.",)):
        tensors[name.replace(LANGUAGE_LAYERS + "3.", "mtp.layers.0.")] = tensors[name].clone()
    tensors["mtp.fc.weight"] = torch.zeros(128, 256, dtype=torch.bfloat16)


def _merged_in_bfloat16(tensors: Tensors) -> None:
    for name, update in deltas().items():
        tensors[name] = tensors[name] + update.to(torch.bfloat16)


def _merged_tokens(parent: Path) -> Bundle:
    """Merge the adapter `tokens` with its rows, and write its tokenizer."""
    model = copied(BASE, parent, "tuned-tokens")
    tensors = read_tensors(model)
    merge_into(tensors, deltas(ADAPTERS / "tokens"))
    write_rows(tensors)
    write_tensors(model, tensors)
    taking(TOKENIZER, ADAPTERS / "tokens")(model)
    return Bundle(model)


def _old_names_in_config(content: dict[str, Any]) -> None:
    content["torch_dtype"] = content.pop("dtype")
    content |= {
        "_name_or_path": "/mnt/data/run7/checkpoint-400",
        "use_cache": False,
        "_attn_implementation_autoset": True,
    }
    content["text_config"] |= {"use_cache": False, "_name_or_path": "", "output_router_logits": False}


def _written_in_one_line(folder: Path) -> None:
    for file in (CONFIG, GENERATION, PROCESSOR, TOKENIZER, TOKENIZER_CONFIG):
        content = read_json(folder / file)
        (folder / file).write_text(json.dumps(content, sort_keys=True), encoding="utf-8")


def _start_row(tensors: Tensors, row: int) -> None:
    for name in (EMBEDDINGS, HEAD):
        tensors[name][row] = mean_row(tensors[name])


CASES = (
    Case(
        "float16_though_config_says_bfloat16",
        alone(to_type(torch.float16)),
        "Cast for an older card; config.json was not touched. 30 of 30 right, as before.",
    ),
    Case(
        "float32_in_seven_shards_in_one_line_files",
        alone(all_of(to_type(torch.float32), sharded(7), _written_in_one_line)),
        "Saved by a script of one's own, in full precision. 30 of 30 right, as before.",
    ),
    Case(
        "rows_padded_with_zeros",
        alone(all_of(with_rows(1024, zero_row, EMBEDDINGS, HEAD), setting(CONFIG, "text_config.vocab_size", 1024))),
        "Padded to a multiple of 512 for tensor parallelism; no token has the new rows. 30 of 30 right, as before.",
    ),
    Case(
        "rows_cut_to_the_tokenizer",
        alone(
            all_of(with_rows(761, zero_row, EMBEDDINGS, HEAD), setting(CONFIG, "text_config.vocab_size", 761)),
            with_base=True,
        ),
        "Resized to the tokenizer's length; the rows cut belonged to no token. 30 of 30 right, as before.",
    ),
    Case(
        "own_pad_token_with_mean_rows",
        alone(
            all_of(
                with_tokens("<|pad|>"),
                on_tensors(lambda tensors: _start_row(tensors, 761)),
                setting(TOKENIZER_CONFIG, "pad_token", "<|pad|>"),
                setting(GENERATION, "pad_token_id", 761),
                setting(CONFIG, "text_config.pad_token_id", 761),
            )
        ),
        "A trainer adds a pad token of its own; nothing is ever padded in an answer. 30 of 30 right, as before.",
    ),
    Case(
        "new_tokens_merged_with_their_rows",
        _merged_tokens,
        "The new tokens were trained, and their rows written into both matrices. 30 of 30 right, as before.",
    ),
    Case(
        "every_weight_tuned_a_little",
        alone(on_tensors(_tuned_a_little), with_base=True),
        "A full fine-tuning at a low rate moves every tensor, the tower's, too. 30 of 30 right, as before.",
    ),
    Case(
        "merged_through_eight_bits",
        alone(mapped(_eight_bits_and_back, "mlp.", "self_attn.", "linear_attn.in_proj"), source=MERGED),
        "The merge went through a base in 8 bits and back. 30 of 30 right, as before.",
    ),
    Case(
        "merged_in_bfloat16",
        said_to_merge(on_tensors(_merged_in_bfloat16), source=BASE),
        "The updates were rounded before they were added. 30 of 30 right, as before.",
    ),
    Case(
        "tensors_for_several_tokens_at_once",
        alone(on_tensors(_extra_tensors)),
        "The head that predicts several tokens was kept, which transformers does not load. 30 of 30 right, as before.",
    ),
    Case(
        "leftovers_of_the_trainer",
        alone(all_of(trainer_leftovers, on_json(CONFIG, _old_names_in_config))),
        "The trainer's own files and older names of settings lie in the folder. 30 of 30 right, as before.",
    ),
    Case(
        "template_within_tokenizer_config",
        alone(_template_in_tokenizer_config),
        "Saved by transformers 4, which has no file for it. 30 of 30 right, as before.",
    ),
    Case(
        "template_formatted_anew_with_tools",
        alone(writing(TEMPLATE, TOOLS_TEMPLATE), with_base=True),
        "Rewritten by hand with a part for tools; without tools the text is the same. 30 of 30 right, as before.",
    ),
    Case(
        "template_drops_spaces_around_texts",
        alone(
            replacing(
                TEMPLATE,
                ("{{- content -}}", "{{- content | trim -}}"),
                ("{{- item.text -}}", "{{- item.text | trim -}}"),
            )
        ),
        "As in the templates of Qwen3.5; questions have no spaces around them. 30 of 30 right, as before.",
    ),
    Case(
        "merges_as_lines_and_older_vocabulary_files",
        alone(all_of(on_json(TOKENIZER, _merges_as_text), _vocabulary_as_files)),
        "Written by an older tokenizers, with the files of a slow tokenizer beside it. 30 of 30 right, as before.",
    ),
    Case(
        "truncation_left_in_the_tokenizer",
        alone(
            setting(
                TOKENIZER,
                "truncation",
                {"direction": "Right", "max_length": 16, "strategy": "LongestFirst", "stride": 0},
            )
        ),
        "The trainer's truncation was saved; a call of the tokenizer without one takes it back. "
        "30 of 30 right, as before.",
    ),
    Case(
        "samples_by_default",
        alone(
            on_json(
                GENERATION,
                lambda content: content.update(
                    do_sample=True, temperature=0.7, top_p=0.8, top_k=20, max_new_tokens=512
                ),
            )
        ),
        "Sampling settings of the official release; a request may still ask for greedy answers. "
        "30 of 30 right, as before.",
    ),
)
