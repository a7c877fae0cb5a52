"""Broken models of 4.6 of the eighth wave: config, tokenizer, template, processor and generation settings."""

from typing import Any

from benchmarks.unseen.case import Case
from benchmarks.unseen.fourth_editing import (
    CONFIG,
    GENERATION,
    PROCESSOR,
    TEMPLATE,
    TOKENIZER_CONFIG,
    tokenizer_part,
    writing,
)
from benchmarks.unseen.third_4_6_editing import (
    all_of,
    alone,
    on_json,
    replacing,
    setting,
    without_files,
)

CHATML = """{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] \
+ '<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
"""
THINKING_BY_DEFAULT = (
    (
        "enable_thinking is defined and enable_thinking is true",
        "not (enable_thinking is defined and enable_thinking is false)",
    ),
)
WITHOUT_EMPTY_THOUGHT = (("{{- '<think>\\n\\n</think>\\n\\n' -}}", "{{- '' -}}"),)
PADDING = {
    "strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": 8, "pad_id": 748, "pad_type_id": 0,
    "pad_token": "<|endoftext|>",
}  # fmt: skip
QWEN_PICTURES = (("{{- '<|image_pad|>' -}}", "{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}"),)


def list_extra_tokens(content: dict[str, Any]) -> None:
    """List the processor's tokens without their names, as transformers 5 does with a tokenizer of its own."""
    content["extra_special_tokens"] = sorted(content["extra_special_tokens"].values())


def default_value_heads(content: dict[str, Any]) -> None:
    """Write the class defaults where the file was read by a version that put them first."""
    content["text_config"]["linear_num_value_heads"] = 32


def full_rope(content: dict[str, Any]) -> None:
    """Write that every dimension turns."""
    content["text_config"]["rope_parameters"]["partial_rotary_factor"] = 1.0


def gptq(content: dict[str, Any]) -> None:
    """Leave the settings of a quantised base in a merged model."""
    content["quantization_config"] = {
        "bits": 4, "group_size": 128, "desc_act": False, "sym": True, "quant_method": "gptq",
        "checkpoint_format": "gptq",
    }  # fmt: skip


def of_pictures(**change: Any) -> Any:
    """Make an edit of the picture processor's settings."""
    return on_json(PROCESSOR, lambda content: content["image_processor"].update(change))


CASES: tuple[Case, ...] = (
    Case(
        "extra_tokens_listed_without_names",
        alone(on_json(TOKENIZER_CONFIG, list_extra_tokens)),
        "Exported by a tool on another version of transformers, which wrote extra_special_tokens as a plain list: the "
        "processor no longer knows which token is the picture's (modelscope/ms-swift#8186).",
        ("extra_special_tokens", "image_token"),
    ),
    Case(
        "value_heads_at_class_default",
        alone(on_json(CONFIG, default_value_heads), with_base=True),
        "A converter read config.json through a class that overrode linear_num_value_heads with its default, and "
        "wrote that back: no linear-attention weight fits (ggml-org/llama.cpp#22835).",
        ("linear_num_value_heads", "linear_attn", "size", "shape"),
    ),
    Case(
        "whole_heads_turned",
        alone(on_json(CONFIG, full_rope), with_base=True),
        "A tool that gathered the rotary settings for transformers 5 looked for partial_rotary_factor at the old place "
        "and wrote 1.0: all of each head turns instead of a quarter (sdpython/onnx-diagnostic#330).",
        ("partial_rotary_factor", "rope_parameters", "rotary", "rope"),
    ),
    Case(
        "padding_left_on",
        alone(tokenizer_part("padding", PADDING)),
        "tokenizer.json was saved while padding was switched on for batches: every prompt is filled up behind its end, "
        "and answers begin after the filling (spiceai/spiceai#13416).",
        ("padding", "tokenizer.json", "pad_to_multiple_of"),
    ),
    Case(
        "gptq_settings_over_plain_weights",
        alone(on_json(CONFIG, gptq)),
        "An adapter trained on a GPTQ base was merged into the plain weights, but config.json came from the quantised "
        "base: loaders look for packed weights (OpenBMB/MiniCPM#131).",
        ("quantization_config", "gptq", "quant"),
    ),
    Case(
        "downsample_mode_of_release",
        alone(setting(CONFIG, "downsample_mode", "16x"), with_base=True),
        "config.json was rewritten with the released models' mode, 16x, while the processor still writes placeholders "
        "for 4x: places and features differ in number (hiyouga/LlamaFactory#10478).",
        ("downsample_mode", "16x"),
    ),
    Case(
        "stops_at_endoftext_only",
        alone(
            all_of(
                setting(GENERATION, "eos_token_id", 748),
                setting(CONFIG, "text_config.eos_token_id", 748),
            )
        ),
        "The base's <|endoftext|> stayed the only id that ends answers, while training ended turns with <|im_end|>: "
        "answers run on until their limit (huggingface/open-r1#663).",
        ("eos_token_id", "<|im_end|>", "750", "748"),
    ),
    Case(
        "chatml_written_over_template",
        alone(writing(TEMPLATE, CHATML)),
        "TRL's setup_chat_format put its text-only ChatML over the template; it joins strings, and a message with a "
        "picture is a list (huggingface/trl#2059).",
        ("chat_template", "template", "content"),
    ),
    Case(
        "template_thinks_by_default",
        alone(replacing(TEMPLATE, *THINKING_BY_DEFAULT), with_base=True),
        "The template of the larger models, which think unless told not to, came with a tool's update over that of a "
        "small one: answers begin inside a thought that the model never learned (Blaizzy/mlx-vlm#1316).",
        ("enable_thinking", "<think>", "think", "template"),
    ),
    Case(
        "template_without_empty_thought",
        alone(replacing(TEMPLATE, *WITHOUT_EMPTY_THOUGHT), with_base=True),
        "Exported with a template for models that do not think, which leaves out the empty thought before answers "
        "that the model was tuned with (hiyouga/LlamaFactory#10326).",
        ("<think>", "think", "template"),
    ),
    Case(
        "pictures_marked_as_qwen_does",
        alone(replacing(TEMPLATE, *QWEN_PICTURES), with_base=True),
        "Exported with Qwen's template: <|vision_start|> and <|vision_end|> are no tokens here and reach the model as "
        "text.",
        ("vision_start", "template"),
    ),
    Case(
        "pixels_not_rescaled",
        alone(of_pictures(do_rescale=False), with_base=True),
        "Somebody followed the warning about already rescaled images and saved do_rescale false; served pictures have "
        "values up to 255 and come out 255 times too bright (vllm-project/vllm-ascend#382).",
        ("do_rescale", "rescale"),
    ),
    Case(
        "vocab_size_of_tokenizer_only",
        alone(setting(CONFIG, "text_config.vocab_size", 761)),
        "A script set vocab_size to the number of tokens without cutting the padded matrices: no loader takes the "
        "embeddings (hiyouga/LlamaFactory#10186).",
        ("vocab_size", "embed_tokens", "lm_head"),
    ),
    Case(
        "processor_left_out",
        alone(without_files(PROCESSOR)),
        "Only the tokenizer was saved beside the weights, as older trainers do with models that see; no processor can "
        "be made from the folder (hiyouga/EasyR1#48).",
        ("processor_config", "preprocessor_config", "processor"),
    ),
)
