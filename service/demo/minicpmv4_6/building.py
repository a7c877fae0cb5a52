"""Builds the untrained demo in the layout of MiniCPM-V 4.6: configuration, tokenizer, chat template and processor.

Knows no picture and no training; the texts for the tokenizer come from the caller.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken
from transformers import (
    GenerationConfig,
    MiniCPMV4_6Config,
    MiniCPMV4_6ForConditionalGeneration,
    MiniCPMV4_6Processor,
    PreTrainedTokenizerFast,
)
from transformers.models.minicpmv4_6.image_processing_minicpmv4_6 import MiniCPMV4_6ImageProcessor
from transformers.models.minicpmv4_6.video_processing_minicpmv4_6 import MiniCPMV4_6VideoProcessor
from transformers.models.qwen3_5.tokenization_qwen3_5 import PRETOKENIZE_REGEX

from service.demo.tokenizing import train_byte_level

PICTURE_PIXELS = 112
PATCH_PIXELS = 14
DOWNSAMPLE_MODE = "4x"
SPARE_ROWS = 24  # at least so many embedding rows beyond the tokenizer, as real checkpoints have
ROW_MULTIPLE = 64

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
NAMED_TOKENS = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "image_start_token": "<image>",
    "image_end_token": "</image>",
    "slice_start_token": "<slice>",
    "slice_end_token": "</slice>",
    "image_id_start_token": "<image_id>",
    "image_id_end_token": "</image_id>",
}
"""Special tokens that `MiniCPMV4_6Processor` looks up on its tokenizer by attribute name."""

REASONING_TOKENS = ("<think>", "</think>")  # not special, as in Qwen3.5: decoding keeps them

CHAT_TEMPLATE = """\
{%- macro render_content(content) -%}
    {%- if content is string -%}
        {{- content -}}
    {%- else -%}
        {%- for item in content -%}
            {%- if item.type == 'image' or item.type == 'image_url' -%}
                {{- '<|image_pad|>' -}}
            {%- elif item.type == 'video' -%}
                {{- '<|video_pad|>' -}}
            {%- elif 'text' in item -%}
                {{- item.text -}}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
{%- endmacro -%}
{%- for message in messages -%}
    {%- if message.role not in ['system', 'user', 'assistant'] -%}
        {{- raise_exception('Unknown role: ' ~ message.role) -}}
    {%- endif -%}
    {{- '<|im_start|>' ~ message.role ~ '\\n' ~ render_content(message.content) ~ '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\\n' -}}
    {%- if enable_thinking is defined and enable_thinking is true -%}
        {{- '<think>\\n' -}}
    {%- else -%}
        {{- '<think>\\n\\n</think>\\n\\n' -}}
    {%- endif -%}
{%- endif -%}
"""


def build_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Returns a byte-level BPE tokenizer in the layout of MiniCPM-V 4.6, trained on `texts`."""
    tokenizer = train_byte_level(texts, PRETOKENIZE_REGEX)
    special = (END_OF_TEXT, TURN_START, TURN_END, *NAMED_TOKENS.values())
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in REASONING_TOKENS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=TURN_END,
        pad_token=END_OF_TEXT,
        extra_special_tokens=dict(NAMED_TOKENS),
        model_max_length=2048,
        chat_template=CHAT_TEMPLATE,
    )


def build_processor(tokenizer: PreTrainedTokenizerFast) -> MiniCPMV4_6Processor:
    """Returns the processor for pictures of 112 x 112 pixels and 16 picture tokens."""
    geometry: dict[str, Any] = {
        "scale_resolution": PICTURE_PIXELS,
        "patch_size": PATCH_PIXELS,
        "max_slice_nums": 1,
        "slice_mode": True,
        "downsample_mode": DOWNSAMPLE_MODE,
    }
    return MiniCPMV4_6Processor(
        image_processor=MiniCPMV4_6ImageProcessor(**geometry),
        video_processor=MiniCPMV4_6VideoProcessor(**geometry),
        tokenizer=tokenizer,
        chat_template=CHAT_TEMPLATE,
    )


def build_config(tokenizer: PreTrainedTokenizerFast) -> MiniCPMV4_6Config:
    """Returns the configuration of a model under 3 M parameters; head sizes are those that vLLM accepts."""
    pad_id, end_id = (tokenizer.convert_tokens_to_ids(token) for token in (END_OF_TEXT, TURN_END))
    text = {
        "model_type": "qwen3_5_text",
        "vocab_size": -(-(len(tokenizer) + SPARE_ROWS) // ROW_MULTIPLE) * ROW_MULTIPLE,
        "hidden_size": 128,
        "intermediate_size": 352,
        "num_hidden_layers": 4,
        "layer_types": ["linear_attention"] * 3 + ["full_attention"],
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 64,
        "linear_key_head_dim": 64,
        "linear_value_head_dim": 64,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 2,
        "max_position_embeddings": 2048,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10_000.0,
            "partial_rotary_factor": 0.25,
            "mrope_section": [3, 3, 2],
            "mrope_interleaved": True,
        },
        "pad_token_id": pad_id,
        "eos_token_id": end_id,
    }
    vision = {
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "image_size": PICTURE_PIXELS,
        "patch_size": PATCH_PIXELS,
    }
    return MiniCPMV4_6Config(
        text_config=text,
        vision_config=vision,
        insert_layer_id=1,
        image_size=PICTURE_PIXELS,
        downsample_mode=DOWNSAMPLE_MODE,
        image_token_id=tokenizer.convert_tokens_to_ids(NAMED_TOKENS["image_token"]),
        video_token_id=tokenizer.convert_tokens_to_ids(NAMED_TOKENS["video_token"]),
        tie_word_embeddings=False,
    )


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> MiniCPMV4_6ForConditionalGeneration:
    """Returns a freshly initialised float32 model for `tokenizer`."""
    torch.manual_seed(seed)
    model = MiniCPMV4_6ForConditionalGeneration(build_config(tokenizer))
    model.generation_config = GenerationConfig(
        eos_token_id=[tokenizer.convert_tokens_to_ids(token) for token in (END_OF_TEXT, TURN_END)],
        pad_token_id=tokenizer.convert_tokens_to_ids(END_OF_TEXT),
        do_sample=False,
    )
    return model


def save_checkpoint(folder: Path, model: MiniCPMV4_6ForConditionalGeneration, processor: MiniCPMV4_6Processor) -> None:
    """Writes a complete checkpoint folder; the model is cast to bfloat16 in place."""
    model.to(torch.bfloat16)
    for config in (model.config, model.config.text_config, model.config.vision_config):
        config.dtype = torch.bfloat16
    model.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    processor.save_pretrained(folder)
    name_special_tokens(folder)


def name_special_tokens(folder: Path) -> None:
    """Rewrites `tokenizer_config.json` so that it names its special tokens in one mapping.

    transformers spreads the mapping over keys of its own when it saves, and adds how the tokenizer was
    loaded; MiniCPM-V 4.6 ships the mapping alone.
    """
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    spread = (*NAMED_TOKENS, "model_specific_special_tokens", "is_local", "local_files_only")
    kept = {key: value for key, value in config.items() if key not in spread}
    content = {**kept, "extra_special_tokens": NAMED_TOKENS}
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
