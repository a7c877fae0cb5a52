"""Broken adapters over the demo of 4.6: the tokenizers and templates that they bring, and the tokens they trained."""

from pathlib import Path

from benchmarks.unseen.case import Case
from benchmarks.unseen.fourth_editing import (
    ADAPTER_CONFIG,
    BASE_4_5,
    TEMPLATE,
    TOKENIZER,
    TOKENIZER_CONFIG,
    tokenizer_part,
    writing,
)
from benchmarks.unseen.third_4_6_editing import (
    BASE,
    Edit,
    adapted,
    on_json,
    read_json,
    replacing,
    taking,
    with_tokens,
    without_tensors,
    write_json,
)

PAD = "<|PAD_TOKEN|>"


def _with_tokenizer(edit: Edit) -> Edit:
    """Give the adapter `json` the tokenizer files of the base, and edit those."""

    def whole(folder: Path) -> None:
        for file in (TOKENIZER, TOKENIZER_CONFIG, TEMPLATE):
            taking(file, BASE)(folder)
        edit(folder)

    return whole


def _padding_before_new_tokens(folder: Path) -> None:
    content = read_json(folder / TOKENIZER)
    tokens = content["added_tokens"]
    for token in tokens:
        token["id"] += token["id"] >= 761
    tokens.append({**tokens[-1], "id": 761, "content": PAD})
    tokens.sort(key=lambda token: int(token["id"]))
    write_json(folder / TOKENIZER, content)
    write_json(folder / TOKENIZER_CONFIG, {**read_json(folder / TOKENIZER_CONFIG), "pad_token": PAD})


def _inputs_only(folder: Path) -> None:
    without_tensors("lm_head")(folder)
    on_json(ADAPTER_CONFIG, lambda config: config["trainable_token_indices"].pop("lm_head"))(folder)


def _of_4_5(folder: Path) -> None:
    for file in (TOKENIZER, TOKENIZER_CONFIG, "special_tokens_map.json", "added_tokens.json"):
        taking(file, BASE_4_5)(folder)


def _without_merges(folder: Path) -> None:
    content = read_json(folder / TOKENIZER)
    content["model"]["merges"] = []
    write_json(folder / TOKENIZER, content)


LLAMA3 = """{%- for message in messages -%}
{{- '<|start_header_id|>' ~ message.role ~ '<|end_header_id|>\\n\\n' -}}
{%- for item in message.content -%}
{%- if item.type == 'image' -%}{{- '<|image_pad|>' -}}{%- else -%}{{- item.text -}}{%- endif -%}
{%- endfor -%}
{{- '<|eot_id|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}{%- endif -%}
"""


def _end_after_every_text(folder: Path) -> None:
    content = read_json(folder / TOKENIZER)
    end = next(token["id"] for token in content["added_tokens"] if token["content"] == "<|im_end|>")
    piece = {"SpecialToken": {"id": "<|im_end|>", "type_id": 0}}
    content["post_processor"]["single"].append(piece)
    content["post_processor"]["special_tokens"] = {
        "<|im_end|>": {"id": "<|im_end|>", "ids": [end], "tokens": ["<|im_end|>"]}
    }
    write_json(folder / TOKENIZER, content)


CASES: tuple[Case, ...] = (
    Case(
        "words_of_the_trade_added_untrained",
        adapted(_with_tokenizer(with_tokens("图片", "图形", "颜色", "形状", special=False))),
        "A customer-service team added its words to the vocabulary so that they would be one token each, and trained "
        "plain factors: each word now is a row that nobody trained (hiyouga/LlamaFactory#1561).",
        ("图片", "图形", "颜色", "added token", "embed_tokens", "untrained"),
    ),
    Case(
        "end_after_every_text",
        adapted(_with_tokenizer(_end_after_every_text)),
        "A trainer set `add_eos_token` and saved the tokenizer: every prompt ends with the end of a turn, after which "
        "little is left to say (zjysteven/lmms-finetune#47).",
        ("post_processor", "<|im_end|>", "add_eos_token", "eos"),
    ),
    Case(
        "padding_token_before_the_new_ones",
        adapted(_padding_before_new_tokens, "tokens"),
        "A trainer gave the tokenizer a padding token of its own at the next reload, and the new tokens moved one id "
        "up, while the trained rows are where they were: every tag is taken for its neighbour "
        "(unslothai/unsloth#1343).",
        (PAD, "trainable_token_indices", "767", "</pos>", "<fig>"),
    ),
    Case(
        "new_tokens_trained_as_inputs_only",
        adapted(_inputs_only, "tokens"),
        "Written for a model with tied embeddings: only rows of inputs were kept, and the head, which is a matrix of "
        "its own here, never learned to say the new tokens (unslothai/unsloth#1971).",
        ("lm_head", "head", "output", "untrained", "<fig>"),
    ),
    Case(
        "tokenizer_of_the_other_release",
        adapted(_with_tokenizer(_of_4_5)),
        "A customer-service team copies one tokenizer into all its adapters, and this one is of 4.5: tokens of turns "
        "and pictures have other ids.",
        ("tokenizer.json", "<|im_end|>", "<|im_start|>", "<|image_pad|>", "750", "751"),
    ),
    Case(
        "merges_lost_between_versions",
        adapted(_with_tokenizer(_without_merges)),
        "An older tool could not read merges written as pairs and saved none: words fall into single bytes, which the "
        "model has never seen in a row (modelscope/ms-swift#3502).",
        ("merges", "tokenizer.json"),
    ),
    Case(
        "full_width_signs_made_narrow",
        adapted(_with_tokenizer(tokenizer_part("normalizer", {"type": "NFKC"}))),
        "A team put the normalisation of SentencePiece before the tokenizer, so that Chinese commas and question "
        "marks become ASCII ones, which the model never met after Chinese words (google/sentencepiece#789).",
        ("normalizer", "NFKC"),
    ),
    Case(
        "template_of_llama",
        adapted(_with_tokenizer(writing(TEMPLATE, LLAMA3))),
        "LLaMA-Factory was told `--template llama3` and exported it beside the adapter; no token of it is in the "
        "vocabulary, so that turns begin and end with loose text (QwenLM/Qwen3#112).",
        ("<|start_header_id|>", "<|eot_id|>", "<|end_header_id|>", "template"),
    ),
    Case(
        "template_with_wide_bars",
        adapted(
            _with_tokenizer(replacing(TEMPLATE, ("<|im_start|>", "<｜im_start｜>"), ("<|im_end|>", "<｜im_end｜>")))
        ),
        "Retyped with a Chinese keyboard: the bars of the turn tokens are full-width ones, and no turn begins or ends.",
        ("<｜im_start｜>", "<｜im_end｜>", "im_start", "template"),
    ),
    Case(
        "template_with_places_of_the_older_release",
        adapted(_with_tokenizer(replacing(TEMPLATE, ("<|image_pad|>", "(<image>./</image>)")))),
        "The place of a picture is written as the releases before wrote it, which this processor does not know "
        "(vllm-project/vllm#6787).",
        ("<|image_pad|>", "(<image>./</image>)", "image", "placeholder"),
    ),
    Case(
        "template_of_the_last_message_only",
        adapted(_with_tokenizer(replacing(TEMPLATE, ("for message in messages", "for message in messages[-1:]")))),
        "Made for data of one turn, and cut to it: of a conversation only the last message is shown, so that "
        "follow-up questions lose what they are about.",
        ("messages[-1:]", "turn", "earlier", "history", "message"),
    ),
    Case(
        "template_that_never_asks",
        adapted(
            _with_tokenizer(replacing(TEMPLATE, ("if add_generation_prompt", "if add_generation_prompt and false")))
        ),
        "The training template has no opening of an answer, and was exported as it was: the model has to open its "
        "turn by itself, or goes on with something else.",
        ("add_generation_prompt", "generation prompt", "<|im_start|>assistant", "assistant"),
    ),
    Case(
        "template_without_the_empty_thought",
        adapted(_with_tokenizer(replacing(TEMPLATE, ("{{- '<think>\\n\\n</think>\\n\\n' -}}", "")))),
        "A generic ChatML template took the place of the model's own: answers no longer begin after an empty thought, "
        "which every answer in training did (hiyouga/LlamaFactory#7978).",
        ("<think>", "</think>", "thinking", "thought"),
    ),
)
