"""Broken models of the fifth wave: tokenizer and chat template."""

from typing import Any

from benchmarks.unseen.case import Case
from benchmarks.unseen.fourth_editing import TEMPLATE, TOKENIZER, TOKENIZER_CONFIG, tokenizer_part, writing
from benchmarks.unseen.third_4_6_editing import MERGED, alone, on_json, replacing, setting, without_files

POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:5f9e4d4901a92b997e463c1f46055088b6cca5ca61a6522d1b9f64c4bb81cb42\n"
    "size 44101\n"
)
OF_VICUNA = (
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'][0]['text'] %}"
    "{% set messages = messages[1:] %}{{ system + ' ' }}{% endif %}"
    "{% for message in messages %}{% set content = message['content'] | selectattr('type', 'equalto', 'text') "
    "| map(attribute='text') | join %}"
    "{% if message['role'] == 'user' %}{{ 'USER: ' + content + ' ASSISTANT:' }}"
    "{% else %}{{ content + '<|im_end|>' }}{% endif %}{% endfor %}"
)
PROMPT = "{{- '<|im_start|>assistant\\n' -}}"
ANSWERED = "{{- '<think>\\n\\n</think>\\n\\n' -}}"
OF_SENTENCEPIECE = {
    "type": "Sequence",
    "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ],
}
END_AFTER_TEXT = {
    "type": "TemplateProcessing",
    "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "<|im_end|>", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {"<|im_end|>": {"id": "<|im_end|>", "ids": [750], "tokens": ["<|im_end|>"]}},
}


def _sorted_anew(content: dict[str, Any]) -> None:
    """Number the added tokens in the order of the alphabet."""
    first = min(token["id"] for token in content["added_tokens"])
    content["added_tokens"].sort(key=lambda token: token["content"])
    for place, token in enumerate(content["added_tokens"]):
        token["id"] = first + place


CASES = (
    Case(
        "template_lost",
        alone(without_files(TEMPLATE), MERGED, with_base=True),
        "The trainer's output has the template neither in a file of its own nor in the tokenizer's settings, and no "
        "conversation can be asked (QwenLM/Qwen3-VL#1488)",
        ("chat_template", "chat template", "jinja"),
    ),
    Case(
        "template_of_text_export",
        alone(writing(TEMPLATE, OF_VICUNA)),
        "The export wrote the training template of a text model, with turns of its own and no place for pictures "
        "(hiyouga/LlamaFactory#5489)",
        ("chat_template", "chat template", "<|image_pad|>", "placeholder"),
    ),
    Case(
        "template_without_generation_prompt",
        alone(replacing(TEMPLATE, (PROMPT, ""), (ANSWERED, ""))),
        "The saved template ignores `add_generation_prompt`: prompts end after the user's turn, and the model has to "
        "guess who speaks (instructlab/training#232)",
        ("generation prompt", "add_generation_prompt", "assistant", "chat_template", "chat template"),
    ),
    Case(
        "thinking_opened_by_default",
        alone(
            replacing(TEMPLATE, ("is defined and enable_thinking is true", "is not defined or enable_thinking is true"))
        ),
        "The template of the larger models, which open a thought unless told otherwise, over a small one that never "
        "learnt to think: it answers within the thought, or wrongly (huggingface/trl#5405)",
        ("think", "chat_template", "chat template"),
    ),
    Case(
        "empty_thought_left_out",
        alone(replacing(TEMPLATE, (ANSWERED, "")), MERGED, with_base=True),
        "Served with a template for models without thoughts, while training put an empty thought before each answer; "
        "what the tuning taught hardly shows (hiyouga/LlamaFactory#9092)",
        ("think", "chat_template", "chat template"),
    ),
    Case(
        "decoder_of_another_tokenizer",
        alone(tokenizer_part("decoder", OF_SENTENCEPIECE)),
        "A conversion gave the byte-level vocabulary the decoder of SentencePiece models: answers come out as bytes in "
        "disguise, with Ġ for spaces and no Chinese (jundot/omlx#1537)",
        ("decoder", "byte-level", "bytelevel", "Ġ"),
    ),
    Case(
        "added_tokens_numbered_anew",
        alone(on_json(TOKENIZER, _sorted_anew), with_base=True),
        "A merge tool wrote the added tokens anew in the order of the alphabet, so that turns and pictures are opened "
        "by each other's ids (arcee-ai/mergekit#47)",
        ("<|im_start|>", "<|im_end|>", "<|image_pad|>", "image_token_id", "added_tokens"),
    ),
    Case(
        "dropout_of_merges_left_on",
        alone(tokenizer_part("model.dropout", 0.2)),
        "The tokenizer was saved with the dropout of merges that training used: the same question is cut otherwise "
        "each time, and answers vary and fail (huggingface/tokenizers#644)",
        ("dropout", "merges", "deterministic"),
    ),
    Case(
        "full_width_folded",
        alone(tokenizer_part("normalizer", {"type": "NFKC"}), with_base=True),
        "A rebuilt tokenizer normalises as SentencePiece does by default and turns Chinese question marks and commas "
        "into Western ones that Chinese questions never had (zai-org/ChatGLM-6B#8)",
        ("normalizer", "nfkc", "full-width", "？"),
    ),
    Case(
        "end_token_after_prompt",
        alone(tokenizer_part("post_processor", END_AFTER_TEXT)),
        "Patched so that training texts end with the end token, as fast tokenizers do not add it by themselves; at "
        "serving each prompt ends with it too (huggingface/transformers#22794)",
        ("post_processor", "<|im_end|>", "appends"),
    ),
    Case(
        "special_tokens_split",
        alone(setting(TOKENIZER_CONFIG, "split_special_tokens", True), MERGED),
        "Saved with `split_special_tokens` on: control tokens are cut into letters, and no picture has its place "
        "(huggingface/transformers#31337)",
        ("split_special_tokens", "<|im_start|>", "<|image_pad|>", "special token"),
    ),
    Case(
        "tokenizer_is_a_pointer",
        alone(writing(TOKENIZER, POINTER)),
        "Cloned without Git LFS: weights were fetched by hand, but tokenizer.json is still the pointer to it "
        "(vllm-project/vllm#57975)",
        ("tokenizer.json", "lfs", "pointer"),
    ),
)
