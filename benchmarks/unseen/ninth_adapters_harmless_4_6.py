"""Harmless adapters of 4.6: written by other versions and trainers, with answers as before."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from benchmarks.unseen.case import Case
from benchmarks.unseen.fourth_editing import (
    ADAPTER_CONFIG,
    TEMPLATE,
    TOKENIZER,
    TOKENIZER_CONFIG,
    keeping_settings,
    to_type,
    trainer_leftovers,
)
from benchmarks.unseen.third_4_6_editing import (
    ADAPTER_WEIGHTS,
    BASE,
    EMBEDDINGS,
    HEAD,
    MODEL_WEIGHTS,
    Tensors,
    adapted,
    all_of,
    deltas,
    on_json,
    on_tensors,
    read_json,
    read_tensors,
    replacing,
    setting,
    taking,
    target_of,
    write_json,
    write_tensors,
)

PREFIX = "base_model.model."
WITH_TOKENIZER = all_of(taking(TOKENIZER, BASE), taking(TOKENIZER_CONFIG, BASE), taking(TEMPLATE, BASE))
TURN = "{{- '<|im_start|>' ~ message.role ~ '\\n' ~ render_content(message.content) ~ '<|im_end|>\\n' -}}"
MARKED_TURN = """\
{{- '<|im_start|>' ~ message.role ~ '\\n' -}}
    {%- if message.role == 'assistant' -%}
        {%- generation -%}{{- render_content(message.content) ~ '<|im_end|>' -}}{%- endgeneration -%}{{- '\\n' -}}
    {%- else -%}
        {{- render_content(message.content) ~ '<|im_end|>\\n' -}}
    {%- endif -%}"""


def _whole_state(folder: Path) -> None:
    """Write the factors as a state that still has the adapter's name, in the old kind of file."""
    factors = {name.replace(".weight", ".default.weight"): one for name, one in read_tensors(folder).items()}
    torch.save(factors, folder / "adapter_model.bin")
    (folder / ADAPTER_WEIGHTS).unlink()


def _merges_as_texts(content: dict[str, Any]) -> None:
    content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]


def _with_embeddings_of_base(tensors: Tensors) -> None:
    base = load_file(BASE / MODEL_WEIGHTS)
    tensors.update({PREFIX + name: base[name] for name in (EMBEDDINGS, HEAD)})


def _to_dora(folder: Path) -> None:
    """Add magnitudes that change nothing: the norm of each row with the update, by the names of older PEFT."""
    tensors, base, added = read_tensors(folder), load_file(BASE / MODEL_WEIGHTS), deltas(folder)
    for name in [one for one in tensors if "lora_A" in one]:
        target = target_of(name)
        whole = base[target].float() + added[target]
        tensors[name.replace("lora_A.weight", "lora_magnitude_vector")] = whole.norm(dim=1)
    write_tensors(folder, tensors)
    setting(ADAPTER_CONFIG, "use_dora", True)(folder)


def _left_on(content: dict[str, Any]) -> None:
    content["truncation"] = {"direction": "Right", "max_length": 32, "strategy": "LongestFirst", "stride": 0}
    content["padding"] = {
        "strategy": {"Fixed": 32},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 748,
        "pad_type_id": 0,
        "pad_token": "<|endoftext|>",
    }


def _as_factory_writes(content: dict[str, Any]) -> None:
    changed = {"padding_side": "right", "split_special_tokens": False, "model_max_length": 131072, "errors": "replace"}
    content.update(
        changed, clean_up_tokenization_spaces=False, additional_special_tokens=["<|im_start|>", "<|im_end|>"]
    )


def _swift_leftovers(folder: Path) -> None:
    trainer_leftovers(folder)
    write_json(folder / "additional_config.json", {"lora_dtype": None, "lorap_lr_ratio": None, "lorap_emb_lr": 1e-06})
    write_json(
        folder / "args.json", {"model": "OpenBMB/MiniCPM-V-4_6", "train_type": "lora", "torch_dtype": "bfloat16"}
    )
    (folder / "global_step400").mkdir()
    (folder / "global_step400" / "mp_rank_00_model_states.pt").write_bytes(b"PK\x03\x04")


def _alpha_into_factors(folder: Path) -> None:
    tensors, config = read_tensors(folder), read_json(folder / ADAPTER_CONFIG)
    scale = config["lora_alpha"] / config["r"]
    write_tensors(folder, {name: one * scale if "lora_B" in name else one for name, one in tensors.items()})
    write_json(folder / ADAPTER_CONFIG, {**config, "lora_alpha": config["r"]})


def _twice_the_rank(folder: Path) -> None:
    """Put the factors beside themselves, each half at half its weight, as joining two adapters does."""
    tensors: Tensors = {}
    for name, one in read_tensors(folder).items():
        tensors[name] = torch.cat([one, one]) if "lora_A" in name else torch.cat([one / 2, one / 2], dim=1)
    write_tensors(folder, tensors)
    config = read_json(folder / ADAPTER_CONFIG)
    changed = {"r": 2 * config["r"], "lora_alpha": 2 * config["lora_alpha"]}
    write_json(folder / ADAPTER_CONFIG, {**config, **changed})


def _by_the_root_of_the_rank(folder: Path) -> None:
    config = read_json(folder / ADAPTER_CONFIG)
    alpha = config["lora_alpha"] / config["r"] ** 0.5
    write_json(folder / ADAPTER_CONFIG, {**config, "lora_alpha": alpha, "use_rslora": True})


def _stale_bin(folder: Path) -> None:
    torch.save({}, folder / "adapter_model.bin")


def _with_windows_lines(folder: Path) -> None:
    for path in (folder / TEMPLATE, folder / TOKENIZER_CONFIG, folder / ADAPTER_CONFIG):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))


def _on_one_line(folder: Path) -> None:
    path = folder / ADAPTER_CONFIG
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(dict(reversed(content.items())), separators=(",", ":")), encoding="utf-8")


CASES: tuple[Case, ...] = (
    Case(
        "state_with_the_adapters_name_in_a_bin",
        adapted(_whole_state),
        "A trainer's state renamed to adapter_model.bin, with the adapter's name in every tensor's; PEFT of today "
        "takes it all the same (hiyouga/LlamaFactory#852).",
    ),
    Case(
        "template_marks_what_is_trained",
        adapted(all_of(WITH_TOKENIZER, replacing(TEMPLATE, (TURN, MARKED_TURN)))),
        "The trainer's template has generation tags around what the assistant says, for the loss only; it renders the "
        "same text (huggingface/trl#5493).",
    ),
    Case(
        "merges_written_as_texts",
        adapted(all_of(WITH_TOKENIZER, on_json(TOKENIZER, _merges_as_texts))),
        "The tokenizer was saved by an older library, which wrote each merge as one text in place of a pair; both are "
        "read alike (modelscope/ms-swift#2494).",
    ),
    Case(
        "base_named_by_a_path_on_windows",
        adapted(
            all_of(
                setting(ADAPTER_CONFIG, "base_model_name_or_path", "D:\\models\\OpenBMB\\MiniCPM-V-4_6-bnb-4bit"),
                setting(ADAPTER_CONFIG, "revision", "main"),
            )
        ),
        "Trained on another machine over a base loaded in 4 bits: the path is nowhere here, and nothing reads it "
        "(oobabooga/textgen#6819).",
    ),
    Case(
        "factors_kept_in_float32",
        adapted(to_type(torch.float32), "tokens"),
        "Trainers that raise what they train to float32 save it so; the file is twice as large and says the same "
        "(hiyouga/LlamaFactory#5348).",
    ),
    Case(
        "embeddings_of_the_base_saved_along",
        adapted(on_tensors(_with_embeddings_of_base)),
        "PEFT took the vocabulary for a changed one and saved both matrices along, which are the base's own "
        "(microsoft/Olive#1027).",
    ),
    Case(
        "dora_by_the_names_of_older_peft",
        adapted(_to_dora),
        "DoRA's magnitudes were once saved without `.weight` at the end of their names; PEFT still reads them so "
        "(huggingface/peft#1717).",
    ),
    Case(
        "tokenizer_saved_with_truncation_on",
        adapted(all_of(WITH_TOKENIZER, on_json(TOKENIZER, _left_on))),
        "Saved right after a call with truncation and padding, which stay in tokenizer.json; transformers sets both "
        "anew for each call.",
    ),
    Case(
        "tokenizer_settings_as_a_factory_writes_them",
        adapted(all_of(WITH_TOKENIZER, on_json(TOKENIZER_CONFIG, _as_factory_writes))),
        "LLaMA-Factory adds the side of padding, a long maximum and a list of special tokens, which are special as it "
        "is (hiyouga/LlamaFactory#3370).",
    ),
    Case(
        "checkpoint_folder_of_swift",
        adapted(_swift_leftovers),
        "A checkpoint as ms-swift leaves it: arguments, optimizer, DeepSpeed's folder and a second configuration, "
        "none of which serving reads.",
    ),
    Case(
        "alpha_multiplied_into_the_factors",
        adapted(_alpha_into_factors),
        "Converters without a notion of alpha multiply it into B and write alpha equal to the rank; the product is the "
        "same (ml-explore/mlx-lm#1120).",
    ),
    Case(
        "joined_adapters_with_twice_the_rank",
        adapted(_twice_the_rank),
        "Two equal adapters joined at half a weight each: twice the rank, one product (hiyouga/LlamaFactory#4421).",
    ),
    Case(
        "scaled_by_the_root_of_the_rank",
        adapted(_by_the_root_of_the_rank),
        "The same scale written for rsLoRA: alpha is a fraction, and the rank's root divides it "
        "(vllm-project/vllm#6909).",
    ),
    Case(
        "empty_bin_of_an_earlier_try",
        adapted(_stale_bin),
        "An adapter_model.bin of some hundred bytes is left of an earlier try beside the good weights, which PEFT "
        "prefers (ymcui/Chinese-LLaMA-Alpaca#711).",
    ),
    Case(
        "targets_that_the_model_does_not_have",
        adapted(
            on_json(
                ADAPTER_CONFIG,
                lambda content: content.update(target_modules=[*content["target_modules"], "W_pack", "qkv_proj"]),
            )
        ),
        "A list of targets for several models at once; those that this one lacks are passed over as long as some are "
        "there.",
    ),
    Case(
        "settings_cut_down_for_an_older_peft",
        adapted(
            keeping_settings("peft_type", "task_type", "r", "lora_alpha", "target_modules", "exclude_modules", "bias")
        ),
        "Keys that an older PEFT refuses were removed by hand, as threads advise; those left out have their defaults "
        "(huggingface/peft#2275).",
    ),
    Case(
        "settings_of_a_newer_peft",
        adapted(all_of(setting(ADAPTER_CONFIG, "merge_weights", False), setting(ADAPTER_CONFIG, "enable_lora", None))),
        "Keys that this PEFT does not know are dropped with a warning (InternLM/lmdeploy#1151).",
    ),
    Case(
        "texts_with_the_line_ends_of_windows",
        adapted(_with_windows_lines, "tokens"),
        "Git turned the line ends of all text files on a Windows machine; the template's blanks around its blocks are "
        "trimmed as before, and JSON does not mind.",
    ),
    Case(
        "settings_on_one_line_in_another_order",
        adapted(_on_one_line, "official"),
        "A tool of the deployment rewrote the settings: the same keys in another order, on one line.",
    ),
)
"""Harmless adapters over the base of 4.6."""
