"""Broken settings and texts of the demo of 4.6: config, tokenizer, template, generation, processor."""

import json
from pathlib import Path
from typing import Any

from benchmarks.unseen.case import Case
from benchmarks.unseen.fourth_editing import (
    CONFIG,
    GENERATION,
    PROCESSOR,
    TEMPLATE,
    TOKENIZER,
    TOKENIZER_CONFIG,
    writing,
)
from benchmarks.unseen.third_4_6_editing import (
    MERGED,
    alone,
    on_json,
    read_json,
    replacing,
    setting,
    without_files,
    write_json,
)

HUMAN_ASSISTANT = """\
{%- for message in messages -%}
    {%- set ns = namespace(text='') -%}
    {%- if message.content is string -%}
        {%- set ns.text = message.content -%}
    {%- else -%}
        {%- for item in message.content -%}
            {%- if item.type == 'image' -%}
                {%- set ns.text = ns.text + '<|image_pad|>' -%}
            {%- elif 'text' in item -%}
                {%- set ns.text = ns.text + item.text -%}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {%- if message.role == 'user' -%}
        {{- 'Human: ' ~ ns.text ~ '\\nAssistant:' -}}
    {%- else -%}
        {{- ns.text ~ '\\n' -}}
    {%- endif -%}
{%- endfor -%}
"""


def _text_only(folder: Path) -> None:
    """Write the settings of the language model alone, without a class."""
    config = read_json(folder / CONFIG)
    write_json(folder / CONFIG, {**config["text_config"], "transformers_version": config["transformers_version"]})


def _special_tokens_as_list(content: dict[str, Any]) -> None:
    content["extra_special_tokens"] = list(content["extra_special_tokens"].values())


def _stretch_rope(content: dict[str, Any]) -> None:
    content["text_config"]["rope_parameters"] |= {"rope_type": "linear", "factor": 4.0}
    content["text_config"]["max_position_embeddings"] = 8192


def _other_grouping(content: dict[str, Any]) -> None:
    for part in ("image_processor", "video_processor"):
        content[part]["downsample_mode"] = "16x"


def _special_tokens_lost(folder: Path) -> None:
    """Keep the trained vocabulary alone, as saving the bare BPE model does."""
    content = read_json(folder / TOKENIZER)
    write_json(folder / TOKENIZER, {**content, "added_tokens": []})
    names = read_json(folder / TOKENIZER_CONFIG)
    kept = {key: value for key, value in names.items() if key not in ("pad_token", "extra_special_tokens")}
    (folder / TOKENIZER_CONFIG).write_text(json.dumps(kept, indent=2), encoding="utf-8")


CASES = (
    Case(
        "generation_ends_at_end_of_text_only",
        alone(setting(GENERATION, "eos_token_id", 748)),
        "generation_config.json lists <|endoftext|> only, while the model ends its turns with <|im_end|>: it generates "
        "until the limit and opens turns of its own (Blaizzy/mlx-vlm#2112).",
        ("eos_token_id", "im_end", "750", "stop", "end of"),
    ),
    Case(
        "template_of_another_trainer",
        alone(writing(TEMPLATE, HUMAN_ASSISTANT), MERGED),
        "The merge was exported with the trainer's default template, Human and Assistant, though the model had learnt "
        "another: answers are a muddle and go on and on (hiyouga/LlamaFactory#8501).",
        ("template", "im_start", "im_end", "turn"),
    ),
    Case(
        "no_template_in_the_folder",
        alone(without_files(TEMPLATE)),
        "The exporter wrote a tokenizer without any chat template, so that no conversation can be rendered "
        "(hiyouga/LlamaFactory#10396).",
        ("chat_template", "template"),
    ),
    Case(
        "template_opens_thinking_unasked",
        alone(
            replacing(
                TEMPLATE,
                ("enable_thinking is defined and enable_thinking is true", "not (enable_thinking | default(false))"),
            )
        ),
        "Somebody thought the switch for thinking reversed and turned it round: without the switch the prompt now "
        "opens <think>, and a model that never thinks goes astray (huggingface/transformers#37949).",
        ("think", "template", "enable_thinking"),
    ),
    Case(
        "merge_saved_without_its_tokenizer",
        alone(without_files(TOKENIZER, TOKENIZER_CONFIG), MERGED),
        "The merging script saved the model and not the tokenizer; whatever is taken in its place, answers are worse, "
        "and the folder alone cannot be asked (QwenLM/Qwen-VL#302).",
        ("tokenizer", "vocabulary"),
    ),
    Case(
        "special_tokens_lost_on_saving",
        alone(_special_tokens_lost, with_base=True),
        "Only the model of the tokenizer was saved, and with it no added tokens: <|im_start|> and the picture's "
        "markers fall into pieces (huggingface/tokenizers#472).",
        ("im_start", "image_pad", "added_tokens", "special token", "im_end"),
    ),
    Case(
        "named_tokens_became_a_list",
        alone(on_json(TOKENIZER_CONFIG, _special_tokens_as_list), MERGED),
        "Saving the tokenizer with another version turned the named tokens into a bare list, so that the processor "
        "finds no image_token (NVIDIA-NeMo/Automodel#2653).",
        ("extra_special_tokens", "image_token", "tokenizer_config"),
    ),
    Case(
        "picture_token_id_of_another_model",
        alone(setting(CONFIG, "image_token_id", 752)),
        "config.json names another id for the picture's placeholder than the tokenizer has: image features and tokens "
        "do not match, tokens: 0 (ibm-granite/granite-vision-models#1).",
        ("image_token_id", "752", "image_pad", "placeholder"),
    ),
    Case(
        "processor_groups_more_patches",
        alone(on_json(PROCESSOR, _other_grouping)),
        "The processor's settings and the model's differ in how many patches make a token, so that every picture ends "
        "in 'image features and image tokens do not match' (hiyouga/LlamaFactory#10241).",
        ("downsample_mode", "16x", "4x"),
    ),
    Case(
        "long_context_only_in_the_config",
        alone(on_json(CONFIG, _stretch_rope), with_base=True),
        "The trainer wrote RoPE scaling into the config after the model was built: it trained without and is served "
        "with positions divided by four (MakazhanAlpamys/Soup#793).",
        ("rope", "factor", "scaling", "position"),
    ),
    Case(
        "settings_of_the_text_model_alone",
        alone(_text_only, MERGED, with_base=True),
        "Loaded as text only for training, merged with all weights, but saved with the settings of the language model: "
        "reloading finds none of the names (unslothai/unsloth-zoo#969).",
        ("model_type", "qwen3_5_text", "vision", "architectures", "text_config"),
    ),
)
