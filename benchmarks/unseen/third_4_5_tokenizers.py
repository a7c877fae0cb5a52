"""Cases of `wave_third_4_5` about tokenizers, added tokens and chat templates."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file

from benchmarks.unseen.case import Bundle
from benchmarks.unseen.third_4_5_folders import (
    OLD_TOKENIZER_FILES,
    WEIGHTS,
    Collector,
    Document,
    add_tokens,
    copy_base,
    json_of,
    noise,
    resize,
    template_of,
)

COLLECTED = Collector()
EMBEDDINGS, HEAD = "llm.model.embed_tokens.weight", "llm.lm_head.weight"
VOCABULARY, DIMENSION = 790, 128
TURN_START, TURN_END, PLACEHOLDER = "<|im_start|>", "<|im_end|>", "<unk>"
PLACEHOLDER_ID, TURN_START_ID = 748, 750
PICTURE_IDS = range(758, 774)
REWRITTEN = """\
{%- macro turn(role, text) -%}<|im_start|>{{ role }}
{{ text }}<|im_end|>
{% endmacro -%}
{%- for message in messages %}{{ turn(message['role'], message['content']) }}{% endfor -%}
{%- if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking %}<think>
{% else %}<think>

</think>

{% endif %}{% endif -%}
"""
THOUGHT = "{{- '<think>\\n\\n</think>\\n\\n' -}}"


def _with_tokenizer(folder: Path, change: Callable[[Document], None]) -> Bundle:
    model = copy_base(folder)
    with json_of(model / "tokenizer.json") as document:
        change(document)
    return Bundle(model)


def _with_template(folder: Path, change: Callable[[str], str]) -> Bundle:
    model = copy_base(folder)
    template_of(model, change)
    return Bundle(model)


@COLLECTED.broken(
    "A conversion put `<pad>` in front of the added tokens, so that each of them stands one id behind its row: 21 of "
    "30 right instead of 30.",
    "<pad>", TURN_START, TURN_END, "<|reserved_15|>", "790",
)  # fmt: skip
def _pad_token_shifts_added_ids(folder: Path) -> Bundle:
    model = copy_base(folder)
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    with json_of(model / "tokenizer.json") as document:
        for token in document["added_tokens"]:
            token["id"] += 1
        document["added_tokens"].insert(0, {"id": PLACEHOLDER_ID, "content": "<pad>", **flags})
        document["model"]["vocab"] |= {"<pad>": PLACEHOLDER_ID, PLACEHOLDER: PLACEHOLDER_ID + 1}
    with json_of(model / "tokenizer_config.json") as config:
        old = config["added_tokens_decoder"]
        config["added_tokens_decoder"] = {
            str(PLACEHOLDER_ID): {"content": "<pad>", **flags},
            **{str(int(number) + 1): token for number, token in old.items()},
        }
        config["pad_token"] = "<pad>"
    for name in OLD_TOKENIZER_FILES:
        (model / name).unlink()
    return Bundle(model)


@COLLECTED.broken(
    "Converted with the settings of another byte-level tokenizer, which puts a space before every piece of text: 10 of "
    "30 right instead of 30.",
    "add_prefix_space", "prefix space", "pre_tokenizer",
)  # fmt: skip
def _prefix_space_before_every_piece(folder: Path) -> Bundle:
    def change(document: Document) -> None:
        document["pre_tokenizer"]["pretokenizers"][-1]["add_prefix_space"] = True

    model = _with_tokenizer(folder, change).model
    with json_of(model / "tokenizer_config.json") as config:
        config["add_prefix_space"] = True
    return Bundle(model)


@COLLECTED.broken(
    "A training script let the tokenizer end every text with the end of a turn and saved it so; served, the prompt is "
    "closed before the answer begins: 5 of 30 right instead of 30.",
    "post_processor", "post-processor", TURN_END, "TemplateProcessing",
)  # fmt: skip
def _post_processor_ends_the_prompt(folder: Path) -> Bundle:
    ending = {"id": TURN_END, "ids": [751], "tokens": [TURN_END]}
    single = [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": TURN_END, "type_id": 0}}]
    pair = [*single, {"Sequence": {"id": "B", "type_id": 1}}, {"SpecialToken": {"id": TURN_END, "type_id": 1}}]

    def change(document: Document) -> None:
        document["post_processor"] = {
            "type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": {TURN_END: ending},
        }  # fmt: skip

    return _with_tokenizer(folder, change)


@COLLECTED.broken(
    "The end of a turn was renamed in the tokenizer's files to what another model calls it, but not in the template, "
    "where it now is spelled out in bytes: 6 of 30 right instead of 30.",
    TURN_END, "<|eot_id|>",
)  # fmt: skip
def _turn_end_renamed_in_tokenizer_only(folder: Path) -> Bundle:
    model = copy_base(folder)
    for name in ("tokenizer.json", "added_tokens.json", "special_tokens_map.json"):
        text = (model / name).read_text(encoding="utf-8")
        (model / name).write_text(text.replace(TURN_END, "<|eot_id|>"), encoding="utf-8")
    with json_of(model / "tokenizer_config.json") as config:
        config["added_tokens_decoder"]["751"]["content"] = "<|eot_id|>"
        config["eos_token"] = "<|eot_id|>"
    return Bundle(model)


@COLLECTED.broken(
    "The tokenizer of the bare language model was saved over that of the multimodal one; the marks around pictures "
    "are no tokens any more: it cannot be loaded.",
    "<image>", "<slice>", "<image_id>",
)  # fmt: skip
def _picture_tokens_lost(folder: Path) -> Bundle:
    model = copy_base(folder)
    with json_of(model / "tokenizer.json") as document:
        document["added_tokens"] = [one for one in document["added_tokens"] if one["id"] not in PICTURE_IDS]
    with json_of(model / "tokenizer_config.json") as config:
        decoder = config["added_tokens_decoder"]
        config["added_tokens_decoder"] = {key: one for key, one in decoder.items() if int(key) not in PICTURE_IDS}
        config.pop("additional_special_tokens")
    for name in OLD_TOKENIZER_FILES:
        (model / name).unlink()
    return Bundle(model)


@COLLECTED.broken(
    "A token of its own was to stand for the empty thought; both matrices got a freshly drawn row, the template writes "
    "it, and LoRA trained neither matrix: 2 of 30 right instead of 30.",
    "<|no_think|>",
)
def _token_for_no_thought_never_trained(folder: Path) -> Bundle:
    model = copy_base(folder)
    add_tokens(model, ("<|no_think|>",), VOCABULARY)
    row = torch.empty(1, DIMENSION)
    resize(model, {EMBEDDINGS: noise(row, 1, 0.02), HEAD: noise(row, 2, 0.02)})
    template_of(model, lambda text: text.replace(THOUGHT, "{{- '<|no_think|>' -}}"))
    return Bundle(model)


@COLLECTED.broken(
    "A token for the empty thought was added to a model whose matrices were padded to a multiple of 64, so that no "
    "size "
    "tells that its rows are zeros of the padding; the template writes it: 2 of 30 right instead of 30.",
    "<|no_think|>",
)
def _template_token_in_padding_rows(folder: Path) -> Bundle:
    model = copy_base(folder)
    add_tokens(model, ("<|no_think|>",), VOCABULARY)
    resize(model, {name: torch.zeros(832 - VOCABULARY, DIMENSION) for name in (EMBEDDINGS, HEAD)})
    template_of(model, lambda text: text.replace(THOUGHT, "{{- '<|no_think|>' -}}"))
    return Bundle(model)


@COLLECTED.broken(
    "The flags of another family's end of turn, which swallows the white space behind it, were copied; the line breaks "
    "between turns and after roles vanish: 0 of 30 right instead of 30.",
    "rstrip", TURN_END, TURN_START,
)  # fmt: skip
def _turn_tokens_swallow_line_breaks(folder: Path) -> Bundle:
    model = copy_base(folder)
    tokens = (TURN_START, TURN_END, "<think>", "</think>")
    with json_of(model / "tokenizer.json") as document:
        for one in document["added_tokens"]:
            one["rstrip"] = one["content"] in tokens
    with json_of(model / "tokenizer_config.json") as config:
        for one in config["added_tokens_decoder"].values():
            one["rstrip"] = one["content"] in tokens
    return Bundle(model)


@COLLECTED.broken(
    "The template was cut to what training needs and opens no turn for the answer: 9 of 30 right instead of 30.",
    "add_generation_prompt", "generation prompt", "assistant", "chat_template", "chat template",
)  # fmt: skip
def _generation_prompt_lost(folder: Path) -> Bundle:
    return _with_template(folder, lambda text: text.split("{%- if add_generation_prompt -%}")[0])


@COLLECTED.broken(
    "The template of a model without thinking replaced that of the tuned one, which always answered behind an empty "
    "thought: 21 of 30 right instead of 30.",
    "think",
)
def _template_without_empty_thought(folder: Path) -> Bundle:
    model = _with_template(folder, lambda text: text.replace(THOUGHT, "")).model
    return Bundle(model, base=copy_base(folder, "base"))


@COLLECTED.broken(
    "A template written for single questions renders the last message only, and the picture of an earlier turn is "
    "lost: a follow-up question cannot be asked.",
    "chat_template", "chat template", "messages[-1:]", "history", "earlier",
)  # fmt: skip
def _template_of_last_message_only(folder: Path) -> Bundle:
    return _with_template(folder, lambda text: text.replace("in messages -%}", "in messages[-1:] -%}"))


@COLLECTED.broken(
    "The tokenizer was saved by a version that puts the template into a file of its own, and only the JSON files were "
    "uploaded: it cannot be loaded.",
    "chat_template", "chat template",
)  # fmt: skip
def _template_file_not_uploaded(folder: Path) -> Bundle:
    model = copy_base(folder)
    with json_of(model / "tokenizer_config.json") as config:
        config.pop("chat_template")
    return Bundle(model)


@COLLECTED.harmless(
    "Saved again with transformers 5, which writes two tokenizer files and the template apart: 30 of 30 right."
)
def _tokenizer_files_of_transformers_5(folder: Path) -> Bundle:
    model = copy_base(folder)
    with json_of(model / "tokenizer_config.json") as config:
        (model / "chat_template.jinja").write_text(config.pop("chat_template"), encoding="utf-8")
        for key in ("added_tokens_decoder", "additional_special_tokens"):
            config.pop(key)
        config |= {"backend": "tokenizers", "is_local": True, "tokenizer_class": "TokenizersBackend"}
    for name in OLD_TOKENIZER_FILES:
        (model / name).unlink()
    return Bundle(model)


@COLLECTED.harmless("A template in other words, with a macro, that renders the same turns: 30 of 30 right.")
def _template_rewritten(folder: Path) -> Bundle:
    return _with_template(folder, lambda text: REWRITTEN)


@COLLECTED.harmless(
    "The template puts the system prompt that the model knows first where a client sends none: 30 of 30 right."
)
def _template_with_default_system_prompt(folder: Path) -> Bundle:
    first = (
        "{%- if messages[0].role != 'system' -%}{{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' "
        "-}}{%- endif -%}\n"
    )
    return _with_template(folder, lambda text: first + text)


@COLLECTED.harmless(
    "Truncation and padding of the training run were saved with the tokenizer; callers set theirs: 30 of 30 right."
)
def _truncation_left_by_training(folder: Path) -> Bundle:
    def change(document: Document) -> None:
        document["truncation"] = {
            "direction": "Right", "max_length": 32, "strategy": "LongestFirst", "stride": 0,
        }  # fmt: skip
        document["padding"] = {
            "strategy": "BatchLongest", "direction": "Left", "pad_to_multiple_of": None, "pad_id": 749,
            "pad_type_id": 0, "pad_token": "<|endoftext|>",
        }  # fmt: skip

    return _with_tokenizer(folder, change)


@COLLECTED.harmless("Grounding tokens were added with rows for later, and nothing writes them yet: 30 of 30 right.")
def _added_tokens_with_mean_rows_unused(folder: Path) -> Bundle:
    model = copy_base(folder)
    tensors = load_file(model / WEIGHTS)
    add_tokens(model, ("<loc_x>", "<loc_y>", "<mask>", "<area>"), VOCABULARY)
    resize(model, {name: tensors[name].float().mean(0).repeat(4, 1) for name in (EMBEDDINGS, HEAD)})
    return Bundle(model)


@COLLECTED.harmless(
    "A token of its own opens turns; its rows were started from `<|im_start|>` and trained, so they differ a little "
    "from it: 30 of 30 right."
)
def _turn_token_added_and_trained(folder: Path) -> Bundle:
    model = copy_base(folder)
    tensors = load_file(model / WEIGHTS)
    add_tokens(model, ("<|turn|>",), VOCABULARY)
    rows = {}
    for seed, name in enumerate((EMBEDDINGS, HEAD)):
        row = tensors[name][TURN_START_ID : TURN_START_ID + 1].float()
        rows[name] = row + noise(row, seed, 0.05 * float(row.std()))
    resize(model, rows)
    template_of(model, lambda text: text.replace("<|im_start|>", "<|turn|>"))
    return Bundle(model)


@COLLECTED.harmless(
    "A reserved token got the name of a tool, as reserved ones are for, and is not used yet: 30 of 30 right."
)
def _reserved_token_renamed(folder: Path) -> Bundle:
    model = copy_base(folder)
    for path in model.glob("*.json"):
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace("<|reserved_3|>", "<|crop_tool|>"), encoding="utf-8")
    return Bundle(model)


@COLLECTED.harmless(
    "Padding with `<|reserved_0|>`, as Unsloth gives models a padding token that no text has: 30 of 30 right."
)
def _padding_token_of_its_own(folder: Path) -> Bundle:
    model = copy_base(folder)
    number = json.loads((model / "added_tokens.json").read_text(encoding="utf-8"))["<|reserved_0|>"]
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        with json_of(model / name) as document:
            document["pad_token"] = "<|reserved_0|>"
    for name in ("generation_config.json", "config.json"):
        with json_of(model / name) as document:
            document["pad_token_id"] = number
    return Bundle(model)
