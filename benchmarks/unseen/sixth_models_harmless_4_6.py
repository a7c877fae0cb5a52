"""Harmless models of the 4.6 demo: what trainers, savers and editors leave that changes no answer."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from benchmarks.unseen.case import Bundle, Case
from benchmarks.unseen.fourth_editing import (
    CONFIG,
    TEMPLATE,
    TOKENIZER,
    TOKENIZER_CONFIG,
    names_of,
    to_type,
    trainer_leftovers,
    writing,
)
from benchmarks.unseen.third_4_6_editing import (
    ADAPTERS,
    EMBEDDINGS,
    HEAD,
    INDEX,
    LANGUAGE_LAYERS,
    MERGED,
    Tensors,
    all_of,
    alone,
    copied,
    on_json,
    on_tensors,
    read_json,
    read_tensors,
    replacing,
    setting,
    with_tokens,
    without_setting,
    write_json,
    write_tensors,
)

PROCESSOR_FILE = "processor_config.json"
TURN = "{{- '<|im_start|>' ~ message.role ~ '\\n' ~ render_content(message.content) ~ '<|im_end|>\\n' -}}"
MARKED = """{{- '<|im_start|>' ~ message.role ~ '\\n' -}}
    {%- if message.role == 'assistant' -%}
        {%- generation -%}{{- render_content(message.content) ~ '<|im_end|>' -}}{%- endgeneration -%}
    {%- else -%}
        {{- render_content(message.content) ~ '<|im_end|>' -}}
    {%- endif -%}
    {{- '\\n' -}}"""
TOOLS = """{%- if tools -%}
    {{- '<|im_start|>system\\n# Tools\\n\\n' ~ (tools | tojson) ~ '<|im_end|>\\n' -}}
{%- endif -%}
{%- for message in messages -%}"""


def _cut_to_tokenizer(model: Path) -> None:
    tensors = read_tensors(model)
    for name in (HEAD, EMBEDDINGS):
        tensors[name] = tensors[name][:761]
    write_tensors(model, tensors)
    setting(CONFIG, "text_config.vocab_size", 761)(model)


def _save_frequencies(tensors: Tensors) -> None:
    tensors["model.language_model.rotary_emb.inv_freq"] = 10_000.0 ** -(torch.arange(0, 16, 2) / 16)


def _keep_predictor(tensors: Tensors) -> None:
    generator = torch.Generator().manual_seed(1)
    for name in names_of(tensors, (f"{LANGUAGE_LAYERS}3.",)):
        tensors[name.replace(f"{LANGUAGE_LAYERS}3.", "mtp.layers.0.")] = tensors[name].clone()
    tensors["mtp.fc.weight"] = torch.randn(128, 256, generator=generator).to(torch.bfloat16)
    tensors["mtp.norm.weight"] = torch.zeros(128, dtype=torch.bfloat16)


def _scale_in_mean(content: dict[str, Any]) -> None:
    for part in ("image_processor", "video_processor"):
        content[part].update(do_rescale=False, image_mean=[127.5] * 3, image_std=[127.5] * 3)


def _join_merges(content: dict[str, Any]) -> None:
    content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]


def _limit_lengths(content: dict[str, Any]) -> None:
    content["truncation"] = {"direction": "Right", "max_length": 64, "strategy": "LongestFirst", "stride": 0}
    content["padding"] = {
        "strategy": {"Fixed": 64},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 748,
        "pad_type_id": 0,
        "pad_token": "<|endoftext|>",
    }


def _reverse(model: Path) -> None:
    for file in (CONFIG, PROCESSOR_FILE, TOKENIZER_CONFIG):
        write_json(model / file, dict(reversed(read_json(model / file).items())))
    content = read_json(model / TOKENIZER)
    content["model"]["vocab"] = dict(reversed(content["model"]["vocab"].items()))
    (model / TOKENIZER).write_text(json.dumps(content), encoding="utf-8")


def _windows_lines(model: Path) -> None:
    for path in (*model.glob("*.json"), model / TEMPLATE):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))


def _snapshot(parent: Path) -> Bundle:
    """Lay a model out as the hub's cache does: links of a snapshot into a folder of blobs."""
    source = copied(MERGED, parent, "source")
    blobs, model = parent / "blobs", parent / "snapshots" / "4f2a9c"
    blobs.mkdir()
    model.mkdir(parents=True)
    for number, path in enumerate(sorted(source.iterdir())):
        shutil.move(path, blobs / f"{number:040x}")
        (model / path.name).symlink_to(f"../../blobs/{number:040x}")
    source.rmdir()
    return Bundle(model)


def _stale_index(model: Path) -> None:
    names = sorted(read_tensors(model))
    where = {name: f"model-{place % 15 + 1:05d}-of-00030.safetensors" for place, name in enumerate(names)}
    write_json(model / INDEX, {"metadata": {"total_size": 10993616}, "weight_map": where})


def _training_folder(model: Path) -> None:
    trainer_leftovers(model)
    inner = model / "checkpoint-500"
    shutil.copytree(ADAPTERS / "json", inner)
    (inner / "optimizer.pt").write_bytes(b"PK\x03\x04")
    (model / "global_step500").mkdir()
    (model / "global_step500" / "mp_rank_00_model_states.pt").write_bytes(b"PK\x03\x04")
    write_json(model / "args.json", {"model_type": "minicpmv4_6", "train_type": "lora", "lora_rank": 8})


def _older_processor_files(model: Path) -> None:
    content = read_json(model / PROCESSOR_FILE)
    write_json(
        model / "preprocessor_config.json",
        {**content.pop("image_processor"), "processor_class": "MiniCPMV4_6Processor"},
    )
    write_json(model / "video_preprocessor_config.json", content.pop("video_processor"))
    write_json(model / PROCESSOR_FILE, content)


def _quantize_and_back(tensors: Tensors) -> None:
    for name, tensor in tensors.items():
        if tensor.ndim == 2 and ".mlp." in name:
            scale = tensor.float().abs().amax(1, keepdim=True) / 127
            tensors[name] = ((tensor.float() / scale).round() * scale).to(tensor.dtype)


CASES: tuple[Case, ...] = (
    Case(
        "rows_cut_to_the_length_of_the_tokenizer",
        alone(_cut_to_tokenizer, with_base=True),
        "resize_token_embeddings to the length of the tokenizer takes the spare rows away, which no token has "
        "(huggingface/peft#2415)",
    ),
    Case(
        "padding_token_in_a_spare_row",
        alone(all_of(with_tokens("<pad>"), setting(TOKENIZER_CONFIG, "pad_token", "<pad>")), MERGED),
        "A trainer added a padding token of its own in the first spare row; nothing is padded in service "
        "(georgesung/llm_qlora#7)",
    ),
    Case(
        "frequencies_of_rope_saved_too",
        alone(on_tensors(_save_frequencies)),
        "Older versions saved the frequencies of the rotary embedding as tensors, which newer ones compute and ignore "
        "(huggingface/transformers#35255)",
    ),
    Case(
        "predictor_of_further_tokens_kept",
        alone(on_tensors(_keep_predictor)),
        "The head for predicting several tokens at once came along from the base; transformers does not load it "
        "(ml-explore/mlx-lm#1442)",
    ),
    Case(
        "full_precision_from_the_optimizer",
        alone(
            all_of(
                to_type(torch.float32),
                setting(CONFIG, "torch_dtype", "float32"),
                without_setting(CONFIG, "dtype"),
                setting(CONFIG, "text_config.dtype", "float32"),
            ),
            MERGED,
        ),
        "zero_to_fp32 writes float32, and an older version of transformers calls the setting torch_dtype "
        "(huggingface/transformers#12427)",
    ),
    Case(
        "template_that_marks_generated_text",
        alone(replacing(TEMPLATE, (TURN, MARKED)), with_base=True),
        "The training variant of a template marks what the assistant wrote, and renders the same text "
        "(huggingface/trl#5838)",
    ),
    Case(
        "template_with_tools",
        alone(replacing(TEMPLATE, ("{%- for message in messages -%}", TOOLS)), MERGED),
        "A block for tools was added to the template; without tools prompts are the same",
    ),
    Case(
        "template_that_trims_its_messages",
        alone(
            replacing(
                TEMPLATE,
                ("{{- content -}}", "{{- content | trim -}}"),
                ("{{- item.text -}}", "{{- item.text | trim -}}"),
            )
        ),
        "Another tool's variant of the template trims messages, which have no spaces around them",
    ),
    Case(
        "scaling_folded_into_mean_and_deviation",
        alone(on_json(PROCESSOR_FILE, _scale_in_mean), with_base=True),
        "Pixels are not scaled to one, and mean and deviation are 127.5 instead of a half, which comes to the same",
    ),
    Case(
        "merges_as_older_versions_write_them",
        alone(on_json(TOKENIZER, _join_merges)),
        "Merges as one text each, as tokenizers wrote them before it took pairs (modelscope/ms-swift#3502)",
    ),
    Case(
        "lengths_of_training_in_the_tokenizer",
        alone(on_json(TOKENIZER, _limit_lengths), MERGED),
        "A training script switched truncation and padding on, and both were saved in tokenizer.json; a call of the "
        "tokenizer sets them anew (huggingface/transformers#5444)",
    ),
    Case(
        "snapshot_of_the_hub_cache_with_its_links",
        _snapshot,
        "The folder is a snapshot of the hub's cache, whose files are links that lead to blobs beside it "
        "(huggingface/huggingface_hub#1222)",
    ),
    Case(
        "cache_switched_off_for_training",
        alone(all_of(setting(CONFIG, "text_config.use_cache", False), setting(CONFIG, "use_cache", False))),
        "Gradient checkpointing switched the cache off, and the config was saved so; answers take longer and are the "
        "same (huggingface/trl#3891)",
    ),
    Case(
        "index_of_shards_that_are_gone",
        alone(_stale_index, MERGED),
        "Shards were joined into one file and their index was forgotten; the single file is what is loaded "
        "(Neph0s/CoSER#3)",
    ),
    Case(
        "whole_output_folder_of_a_trainer",
        alone(_training_folder, MERGED),
        "The output folder of a training run as it is: optimizer states, arguments, and a checkpoint with its adapter "
        "in a folder of its own",
    ),
    Case(
        "fields_of_unsloth",
        alone(
            all_of(
                setting(CONFIG, "unsloth_fixed", True),
                setting(CONFIG, "unsloth_version", "2026.2.1"),
                setting(CONFIG, "_name_or_path", "/workspace/minicpm-demo"),
                setting(CONFIG, "model_name", "unsloth/minicpm-demo"),
                setting(TOKENIZER_CONFIG, "padding_side", "left"),
                writing("README.md", "---\ntags:\n- unsloth\n---\n"),
            ),
            MERGED,
        ),
        "Fields that a trainer adds to config and tokenizer, and the side on which it pads",
    ),
    Case(
        "processor_in_the_files_of_older_versions",
        alone(_older_processor_files),
        "The settings of pictures and videos in files of their own, as versions before 5 saved them",
    ),
    Case(
        "quantized_and_back_with_the_scales",
        alone(on_tensors(_quantize_and_back)),
        "Projections went through 8 bits and back with a scale a row, and answers are as before "
        "(huggingface/transformers#30806)",
    ),
    Case(
        "keys_in_another_order",
        alone(_reverse),
        "Another library wrote settings and vocabulary in another order and without line breaks",
    ),
    Case(
        "line_ends_of_windows",
        alone(_windows_lines),
        "git on Windows turned the line ends of text files, the template's among them, which changes no prompt",
    ),
)
