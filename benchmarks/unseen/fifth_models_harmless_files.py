"""Harmless models of the fifth wave: settings, processor, tokenizer and template."""

from pathlib import Path
from typing import Any

from benchmarks.unseen.case import Case
from benchmarks.unseen.fourth_editing import (
    CONFIG,
    GENERATION,
    PREPROCESSOR,
    PROCESSOR,
    TEMPLATE,
    TOKENIZER,
    TOKENIZER_CONFIG,
    tokenizer_part,
)
from benchmarks.unseen.third_4_6_editing import (
    MERGED,
    all_of,
    alone,
    on_json,
    read_json,
    replacing,
    setting,
    without_files,
    without_setting,
    write_json,
)

TRUNCATED = {"direction": "Right", "max_length": 16, "strategy": "LongestFirst", "stride": 0}
START_BEFORE_TEXT = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [748], "tokens": ["<|endoftext|>"]}},
}
OF_TRAINER = {
    "do_sample": True,
    "temperature": 0.1,
    "top_p": 0.001,
    "max_new_tokens": 64,
}
OF_MISTRAL = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TURN = "{{- '<|im_start|>' ~ message.role ~ '\\n' ~ render_content(message.content) ~ '<|im_end|>\\n' -}}"
LEARNT = (
    "{{- '<|im_start|>' ~ message.role ~ '\\n' -}}"
    "{%- if message.role == 'assistant' -%}{%- generation -%}"
    "{{- render_content(message.content) ~ '<|im_end|>\\n' -}}"
    "{%- endgeneration -%}{%- else -%}{{- render_content(message.content) ~ '<|im_end|>\\n' -}}{%- endif -%}"
)
LOOP = "{%- for message in messages -%}"
DEFAULT_SYSTEM = (
    "{%- if messages and messages[0].role != 'system' -%}"
    "{{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' -}}{%- endif -%}\n"
)


def _template_in_tokenizer_config(folder: Path) -> None:
    """Move the template to where older versions kept it."""
    text = (folder / TEMPLATE).read_text(encoding="utf-8")
    (folder / TEMPLATE).unlink()
    setting(TOKENIZER_CONFIG, "chat_template", text)(folder)


def _older_rope(content: dict[str, Any]) -> None:
    """Write positions as older versions did: the base on its own, the rest as scaling."""
    text = content["text_config"]
    rope = text.pop("rope_parameters")
    text["rope_theta"] = rope.pop("rope_theta")
    text["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
    text["rope_scaling"] = {"type": "default", **rope}


def _older_kinds(content: dict[str, Any]) -> None:
    """Say every how many layers one attends to all, instead of listing them."""
    del content["text_config"]["layer_types"]
    content["text_config"]["full_attention_interval"] = 4


def _a_file_for_each_processor(folder: Path) -> None:
    """Write the settings of pictures and videos to files of their own, as before version 5."""
    content = read_json(folder / PROCESSOR)
    write_json(folder / PREPROCESSOR, {**content["image_processor"], "processor_class": "MiniCPMV4_6Processor"})
    write_json(folder / "video_preprocessor_config.json", content["video_processor"])
    (folder / PROCESSOR).unlink()


def _split_as_mistral(content: dict[str, Any]) -> None:
    """Write the rule by which Mistral's tokenizers split words."""
    content["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {"Regex": OF_MISTRAL}


def _merges_as_text(content: dict[str, Any]) -> None:
    """Write merges as older versions of tokenizers did, each a text with a space."""
    content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]


def _from_a_disk(content: dict[str, Any]) -> None:
    """Write what trainers write into a config."""
    content["_name_or_path"] = "outputs/checkpoint-400"
    content["torch_dtype"] = content.pop("dtype")
    content["transformers_version"] = "4.57.1"
    content["unsloth_version"] = "2026.7.4"
    content["unsloth_fixed"] = True
    content["use_cache"] = False
    content["text_config"]["use_cache"] = False


CASES = (
    Case(
        "generation_settings_not_saved",
        alone(without_files(GENERATION), MERGED, with_base=True),
        "The merged folder has no generation_config.json; config.json names the end of a turn (unslothai/unsloth#5410)",
    ),
    Case(
        "generation_settings_of_trainer",
        alone(on_json(GENERATION, lambda content: content.update(OF_TRAINER)), MERGED),
        "The trainer's own sampling and its short answers were saved as the model's; a server sets its own "
        "(modelscope/ms-swift#3113)",
    ),
    Case(
        "cache_off_since_training",
        alone(on_json(CONFIG, _from_a_disk)),
        "Training with checkpointed gradients left `use_cache` off in the config, and the tool its own fields; slower "
        "elsewhere, never wrong (huggingface/trl#3891)",
    ),
    Case(
        "template_in_tokenizer_config",
        alone(_template_in_tokenizer_config),
        "Saved by version 4 of transformers, which keeps the template in the tokenizer's settings "
        "(QwenLM/Qwen3-VL#1488)",
    ),
    Case(
        "template_marks_what_is_learnt",
        alone(replacing(TEMPLATE, (TURN, LEARNT)), MERGED),
        "The training template with marks around answers, for the loss, was saved; it renders the same "
        "(huggingface/trl#5824)",
    ),
    Case(
        "template_adds_system_prompt",
        alone(replacing(TEMPLATE, (LOOP, DEFAULT_SYSTEM + LOOP))),
        "The exported template puts a system prompt of the training data before conversations without one "
        "(hiyouga/LlamaFactory#9668)",
    ),
    Case(
        "truncation_baked_in",
        alone(tokenizer_part("truncation", TRUNCATED)),
        "tokenizer.json carries the cut of the training script; transformers resets it when it loads "
        "(ai-dynamo/dynamo#11792)",
    ),
    Case(
        "split_as_mistral",
        alone(on_json(TOKENIZER, _split_as_mistral)),
        "Loaded with `fix_mistral_regex` after a warning meant for others, and saved: the rule that splits words is "
        "Mistral's, with the same ids for what people ask (huggingface/transformers#42591)",
    ),
    Case(
        "tokenizer_class_of_version_4",
        alone(
            all_of(
                setting(TOKENIZER_CONFIG, "tokenizer_class", "Qwen2Tokenizer"),
                without_setting(TOKENIZER_CONFIG, "backend"),
            )
        ),
        "The tokenizer's settings name the class of version 4 (huggingface/transformers#44344)",
    ),
    Case(
        "older_rope_keys",
        alone(on_json(CONFIG, _older_rope)),
        "A config of version 4: the base of rotation on its own, the rest as `rope_scaling` (vllm-project/vllm#42624)",
    ),
    Case(
        "layer_kinds_by_interval",
        alone(on_json(CONFIG, _older_kinds)),
        "The config says that each fourth layer attends to all, as older ones do, instead of listing the layers",
    ),
    Case(
        "a_file_for_each_processor",
        alone(_a_file_for_each_processor, MERGED),
        "Pictures and videos have a preprocessor file each, as before version 5, and there is no file for both",
    ),
    Case(
        "merges_as_text",
        alone(on_json(TOKENIZER, _merges_as_text)),
        "tokenizer.json of an older version writes a merge as a text with a space; half the size, the same tokenizer "
        "(arcee-ai/mergekit#469)",
    ),
    Case(
        "start_token_before_prompt",
        alone(tokenizer_part("post_processor", START_BEFORE_TEXT)),
        "The tokenizer puts <|endoftext|> before each prompt, as a start; the template has none of its own "
        "(deepseek-ai/DeepSeek-R1#151)",
    ),
)
