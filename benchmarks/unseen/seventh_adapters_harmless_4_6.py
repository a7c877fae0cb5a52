"""Harmless adapters over the demo of 4.6, as people bring them."""

import math
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from benchmarks.unseen.case import Case
from benchmarks.unseen.fourth_editing import ADAPTER_CONFIG, TEMPLATE, TOKENIZER, TOKENIZER_CONFIG, tokenizer_part
from benchmarks.unseen.seventh_adapters_editing import plain_noise, to_dora
from benchmarks.unseen.third_4_6_editing import (
    ADAPTER_WEIGHTS,
    BASE,
    EMBEDDINGS,
    HEAD,
    MARKUP,
    MARKUP_ROWS,
    MODEL_WEIGHTS,
    Tensors,
    adapted,
    all_of,
    mapped,
    on_tensors,
    read_json,
    read_tensors,
    renamed,
    replacing,
    setting,
    write_json,
    write_tensors,
)

ENDS = ("<|im_end|>", "<|endoftext|>")
LONGEST = {"direction": "Right", "max_length": 32, "strategy": "LongestFirst", "stride": 0}
HALVES = (".lora_A.", ".lora_B.")


def _rslora(folder: Path) -> None:
    config = read_json(folder / ADAPTER_CONFIG)
    alpha = config["lora_alpha"] / math.sqrt(config["r"])
    write_json(folder / ADAPTER_CONFIG, {**config, "use_rslora": True, "lora_alpha": alpha})


def _padded(tensors: Tensors) -> None:
    for name, one in tensors.items():
        axis = 0 if "lora_A" in name else 1
        tensors[name] = torch.cat([one, torch.zeros_like(one)], dim=axis)


def _by_svd(folder: Path) -> None:
    tensors, config = read_tensors(folder), read_json(folder / ADAPTER_CONFIG)
    scale = config["lora_alpha"] / config["r"]
    for first in [name for name in tensors if "lora_A" in name]:
        second = first.replace("lora_A", "lora_B")
        update = scale * tensors[second].float() @ tensors[first].float()
        left, values, right = torch.linalg.svd(update, full_matrices=False)
        rank = min(config["r"], len(values))
        spare = config["r"] - rank
        tensors[second] = torch.nn.functional.pad(left[:, :rank] * values[:rank], (0, spare))
        tensors[first] = torch.nn.functional.pad(right[:rank], (0, 0, 0, spare))
    write_tensors(folder, tensors)
    write_json(folder / ADAPTER_CONFIG, {**config, "lora_alpha": config["r"]})


def _merges_as_strings(folder: Path) -> None:
    content = read_json(folder / TOKENIZER)
    merges = content["model"]["merges"]
    content["model"]["merges"] = [one.split(" ") if isinstance(one, str) else " ".join(one) for one in merges]
    write_json(folder / TOKENIZER, content)


def _crlf(folder: Path) -> None:
    text = (folder / TEMPLATE).read_text(encoding="utf-8")
    (folder / TEMPLATE).write_bytes(text.replace("\n", "\r\n").encode())


def _inlined(folder: Path) -> None:
    text = (folder / TEMPLATE).read_text(encoding="utf-8")
    (folder / TEMPLATE).unlink()
    write_json(folder / TOKENIZER_CONFIG, {**read_json(folder / TOKENIZER_CONFIG), "chat_template": text})


def _default_system(folder: Path) -> None:
    text = (folder / TEMPLATE).read_text(encoding="utf-8")
    opening = (
        "{%- if messages[0].role != 'system' -%}"
        "{{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' -}}{%- endif -%}\n"
    )
    (folder / TEMPLATE).write_text(opening + text, encoding="utf-8")


def _with_embeddings(folder: Path) -> None:
    tensors, weights = read_tensors(folder), load_file(BASE / MODEL_WEIGHTS)
    for name in (EMBEDDINGS, HEAD):
        tensors["base_model.model." + name] = weights[name]
    write_tensors(folder, tensors)


def _windows(folder: Path) -> None:
    setting(ADAPTER_CONFIG, "base_model_name_or_path", "D:\\模型\\MiniCPM-V-4_6")(folder)
    (folder / "desktop.ini").write_text("[.ShellClassInfo]\r\nIconResource=C:\\WINDOWS\\folder.ico\r\n")
    (folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")


def _newer(folder: Path) -> None:
    config = read_json(folder / ADAPTER_CONFIG)
    more = {"peft_version": "0.25.0.dev0@1f2e3d", "lora_fusion_config": None, "use_tied_dropout": False}
    write_json(folder / ADAPTER_CONFIG, {**config, **more})


def _whole_matrices(folder: Path) -> None:
    tensors, weights = read_tensors(folder), load_file(BASE / MODEL_WEIGHTS)
    for target in (EMBEDDINGS, HEAD):
        prefix = "base_model.model." + target.removesuffix(".weight")
        whole = weights[target].clone()
        whole[MARKUP_ROWS] = tensors.pop(prefix + ".token_adapter.trainable_tokens_delta").to(whole.dtype)
        tensors[prefix + ".weight"] = whole
    write_tensors(folder, tensors)
    more = {"trainable_token_indices": None, "modules_to_save": ["embed_tokens", "lm_head"]}
    write_json(folder / ADAPTER_CONFIG, {**read_json(folder / ADAPTER_CONFIG), **more})


def _other_order(folder: Path) -> None:
    tensors, config = read_tensors(folder), read_json(folder / ADAPTER_CONFIG)
    for name in tensors:
        if "trainable_tokens_delta" in name:
            tensors[name] = tensors[name].flip(0)
    for ids in config["trainable_token_indices"].values():
        ids.reverse()
    write_tensors(folder, tensors)
    write_json(folder / ADAPTER_CONFIG, config)


def _older_map(folder: Path) -> None:
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    more = {role: {"content": one, **flags} for role, one in zip(("eos_token", "pad_token"), ENDS, strict=True)}
    write_json(folder / "special_tokens_map.json", {"additional_special_tokens": list(MARKUP), **more})
    ids = {one["content"]: one["id"] for one in read_json(folder / TOKENIZER)["added_tokens"]}
    write_json(folder / "added_tokens.json", {one: ids[one] for one in MARKUP})


def _older_checkpoint(folder: Path) -> None:
    older = folder / "checkpoint-100"
    older.mkdir()
    tensors = {name: torch.zeros_like(one) for name, one in read_tensors(folder).items()}
    save_file(tensors, older / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    write_json(older / ADAPTER_CONFIG, read_json(folder / ADAPTER_CONFIG))
    (older / "optimizer.pt").write_bytes(b"PK\x03\x04")


def _with_idle_vision(folder: Path) -> None:
    """Add factors of the vision tower's attention whose B never left zero."""
    tensors, weights = read_tensors(folder), load_file(BASE / MODEL_WEIGHTS)
    for name, weight in weights.items():
        if "vision_tower" in name and name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight")):
            prefix = "base_model.model." + name.removesuffix(".weight")
            tensors[prefix + ".lora_A.weight"] = plain_noise(torch.Size((8, weight.shape[1])), len(name)) * 0.05
            tensors[prefix + ".lora_B.weight"] = torch.zeros(weight.shape[0], 8)
    write_tensors(folder, tensors)
    setting(ADAPTER_CONFIG, "exclude_modules", None)(folder)


GENERATION_TAGS = (
    "{{- '<|im_start|>' ~ message.role ~ '\\n' ~ render_content(message.content) ~ '<|im_end|>\\n' -}}",
    "{{- '<|im_start|>' ~ message.role ~ '\\n' -}}"
    "{%- if message.role == 'assistant' -%}{%- generation -%}{{- render_content(message.content) ~ '<|im_end|>' -}}"
    "{%- endgeneration -%}{%- else -%}{{- render_content(message.content) ~ '<|im_end|>' -}}{%- endif -%}"
    "{{- '\\n' -}}",
)

CASES: tuple[Case, ...] = (
    Case(
        "dora_with_the_right_magnitudes",
        adapted(to_dora),
        "Somebody trained with `use_dora`, whose magnitudes servers often do not know; each is the norm of its tuned "
        "row, so that answers are those of the plain adapter (vllm-project/vllm#6983).",
    ),
    Case(
        "dora_magnitudes_under_their_first_names",
        adapted(all_of(to_dora, renamed(lambda name: name.replace("magnitude_vector.weight", "magnitude_vector")))),
        "The first versions of PEFT with DoRA stored the magnitude as a bare parameter; later ones rename it at "
        "loading (huggingface/peft#1474).",
    ),
    Case(
        "fan_in_fan_out_of_another_architecture",
        adapted(setting(ADAPTER_CONFIG, "fan_in_fan_out", True)),
        "A config copied from a GPT-2 recipe says that weights are transposed; PEFT warns that these are plain linear "
        "layers, and takes them as such (huggingface/peft#324).",
    ),
    Case(
        "rank_stabilised_with_fitting_alpha",
        adapted(_rslora),
        "`use_rslora` divides by the root of the rank; the alpha that fits is no whole number, and the scale the same "
        "(NVIDIA/TensorRT-LLM#1668).",
    ),
    Case(
        "rank_padded_with_zeros",
        adapted(
            all_of(on_tensors(_padded), setting(ADAPTER_CONFIG, "r", 16), setting(ADAPTER_CONFIG, "lora_alpha", 32))
        ),
        "A server takes only adapters of one rank, so that a team pads smaller ones with zeros and doubles alpha: the "
        "products are the same (PrimeIntellect-ai/prime-rl#1408).",
    ),
    Case(
        "factors_by_svd",
        adapted(_by_svd),
        "A tool that extracts adapters writes orthonormal A and all the size in B, in float32, with alpha the rank: "
        "other factors of the same products (bmaltais/kohya_ss#2744).",
    ),
    Case(
        "factors_in_float16",
        adapted(mapped(lambda one: one.half(), *HALVES)),
        "Somebody with an older card keeps everything in float16; factors of this size lose nothing that answers show.",
    ),
    Case(
        "keys_of_a_newer_peft",
        adapted(_newer),
        "Saved by a development version of PEFT, whose config has keys that today's does not know; it warns and "
        "leaves them out (huggingface/peft#2340).",
    ),
    Case(
        "windows_leftovers",
        adapted(_windows),
        "Trained on Windows: the base's path has backslashes and Chinese signs, and the Explorer left its own files.",
    ),
    Case(
        "older_checkpoint_inside",
        adapted(_older_checkpoint),
        "The trainer's folder was copied as it was; a first checkpoint of an adapter that had learned nothing lies in "
        "a folder of its own, which nobody loads.",
    ),
    Case(
        "embeddings_saved_along",
        adapted(_with_embeddings),
        "PEFT saves both matrices of the vocabulary whenever it thinks that they could have grown, and says so in a "
        "warning; they are the base's to the last bit (huggingface/peft#2290).",
    ),
    Case(
        "adapter_names_in_the_keys",
        adapted(renamed(lambda name: name.replace(".weight", ".default.weight"))),
        "Tensors were taken from `state_dict()` of the training process with the adapter's name in theirs; it is the "
        "usual one, and PEFT finds them (huggingface/peft#1323).",
    ),
    Case(
        "vision_factors_that_never_learned",
        adapted(_with_idle_vision),
        "Targets were all attention layers and the vision tower was frozen: its factors are in the file, B is zero as "
        "it began, and what the language model learned is whole.",
    ),
    Case(
        "merges_in_the_other_form",
        adapted(_merges_as_strings, "tokens"),
        "Newer tokenizers write each merge as a pair, older ones as one text; people see the file grow and fear for "
        "it, and both are read alike (modelscope/ms-swift#3502).",
    ),
    Case(
        "padding_with_the_end_of_turn",
        adapted(setting(TOKENIZER_CONFIG, "pad_token", "<|im_end|>"), "tokens"),
        "A training script set `pad_token = eos_token` and saved the tokenizer; padding is masked, and nothing that "
        "answers a single conversation pads.",
    ),
    Case(
        "longest_length_in_the_tokenizer",
        adapted(tokenizer_part("truncation", LONGEST), "tokens"),
        "A trainer calls the tokenizer with a longest length, and saving writes it into tokenizer.json; whoever calls "
        "it through transformers says anew whether to cut (vllm-project/llm-compressor#2917).",
    ),
    Case(
        "template_with_windows_line_ends",
        adapted(_crlf, "tokens"),
        "An editor on Windows saved the template with other line ends; Jinja reads both as one.",
    ),
    Case(
        "template_with_default_system_prompt",
        adapted(_default_system, "tokens"),
        "The template of the training framework opens with a system prompt where none is given, as training had it "
        "now and then (hiyouga/LlamaFactory#8356).",
    ),
    Case(
        "template_inside_the_tokenizer_config",
        adapted(_inlined, "tokens"),
        "Saved by a transformers that knew no template file: the same text stands in tokenizer_config.json.",
    ),
    Case(
        "template_marks_what_is_trained",
        adapted(replacing(TEMPLATE, GENERATION_TAGS), "tokens"),
        "For loss on answers only, TRL wants `{% generation %}` around them; the tag renders to nothing "
        "(huggingface/trl#4879).",
    ),
    Case(
        "whole_matrices_for_new_tokens",
        adapted(_whole_matrices, "tokens"),
        "Trained with both matrices in `modules_to_save` where others train single rows: the file is bigger, and the "
        "tokens are the same (unslothai/unsloth#3547).",
    ),
    Case(
        "trained_rows_in_another_order",
        adapted(_other_order, "tokens"),
        "`trainable_token_indices` came from a set and is in no order; rows follow their indices.",
    ),
    Case(
        "older_files_of_special_tokens",
        adapted(_older_map, "tokens"),
        "Saved by transformers 4, which writes added_tokens.json and special_tokens_map.json as well; both agree with "
        "tokenizer.json.",
    ),
)
