"""Broken models of the 4.6 demo: tokenizers and chat templates that savers and helpful hands changed."""

from benchmarks.unseen.case import Case
from benchmarks.unseen.fourth_editing import BASE_4_5, TEMPLATE, TOKENIZER, tokenizer_part, writing
from benchmarks.unseen.third_4_6_editing import MERGED, all_of, alone, replacing, taking

POINTER = """version https://git-lfs.github.com/spec/v1
oid sha256:5f9e4d4901a92b997e463c1f46055088b6cca5ca61a6522d1b9f64c4bb81cb42
size 44101
"""
GENERATION_PROMPT = (
    "{%- if add_generation_prompt -%}\n    {{- '<|im_start|>assistant\\n' -}}\n"
    "    {%- if enable_thinking is defined and enable_thinking is true -%}\n        {{- '<think>\\n' -}}\n"
    "    {%- else -%}\n        {{- '<think>\\n\\n</think>\\n\\n' -}}\n    {%- endif -%}\n{%- endif -%}\n"
)
METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": False}
DECODER_OF_LLAMA = {
    "type": "Sequence",
    "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ],
}
ENDING_EACH_TEXT = {
    "type": "TemplateProcessing",
    "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "<|im_end|>", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {"<|im_end|>": {"id": "<|im_end|>", "ids": [750], "tokens": ["<|im_end|>"]}},
}

CASES: tuple[Case, ...] = (
    Case(
        "tokenizer_is_a_pointer",
        alone(writing(TOKENIZER, POINTER)),
        "Cloned without Git LFS and only the weights fetched by hand: tokenizer.json is a pointer of three lines "
        "(turboderp/exllama#242)",
        ("tokenizer.json", "lfs", "pointer"),
    ),
    Case(
        "template_lost_its_generation_prompt",
        alone(replacing(TEMPLATE, (GENERATION_PROMPT, "")), MERGED),
        "The training script's own template, without the part for add_generation_prompt, was saved over the model's: "
        "nothing opens the assistant's turn, and answers are empty or start with headers (OpenBMB/MiniCPM-V#220)",
        ("generation_prompt", "generation prompt", "chat_template", "assistant"),
    ),
    Case(
        "template_without_empty_thoughts",
        alone(replacing(TEMPLATE, ("{{- '<think>\\n\\n</think>\\n\\n' -}}", "{{- '' -}}")), with_base=True),
        "The trainer saved its own template in place of the one that the model knows: the assistant's turn no longer "
        "begins with empty thoughts, and answers break off or mix languages (hiyouga/LlamaFactory#7785)",
        ("think", "template"),
    ),
    Case(
        "tokenizer_of_the_other_generation",
        alone(taking(TOKENIZER, BASE_4_5)),
        "The saved tokenizer would not load, and somebody copied tokenizer.json over it, but from the generation "
        "before: every special token has another id, and <|image_pad|> none (hiyouga/LlamaFactory#6383)",
        ("tokenizer.json", "<|im_start|>", "<|image_pad|>", "<|im_end|>"),
    ),
    Case(
        "tokenizer_saved_as_of_llama",
        alone(all_of(tokenizer_part("pre_tokenizer", METASPACE), tokenizer_part("decoder", DECODER_OF_LLAMA))),
        "transformers 5 loaded the tokenizer as LlamaTokenizer and saved it: Metaspace in place of ByteLevel, spaces "
        "are lost in prompts and answers show Ġ and broken Chinese (huggingface/transformers#45488)",
        ("pre_tokenizer", "Metaspace", "decoder", "ByteLevel", "tokenizer.json"),
    ),
    Case(
        "end_of_turn_after_every_prompt",
        alone(tokenizer_part("post_processor", ENDING_EACH_TEXT)),
        "For training somebody loaded the processor with add_eos_token and saved it: <|im_end|> now follows every "
        "prompt, after the assistant's header, and answers get worse (zjysteven/lmms-finetune#47)",
        ("post_processor", "<|im_end|>", "eos", "post-processor"),
    ),
)
