"""Adapters over the demo of 4.6 that look odd and answer as ever."""

import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from benchmarks.unseen.case import Case
from benchmarks.unseen.fourth_editing import (
    TOKENIZER,
    TOKENIZER_CONFIG,
    to_type,
    trainer_leftovers,
)
from benchmarks.unseen.sixth_adapters_editing import (
    Factors,
    as_dora,
    configured,
    exchanged,
    on_factors,
    pairs_of,
    with_template,
    with_texts_of,
)
from benchmarks.unseen.third_4_6_editing import (
    BASE,
    EMBEDDINGS,
    HEAD,
    MARKUP,
    MODEL_WEIGHTS,
    Tensors,
    adapted,
    all_of,
    mapped,
    on_json,
    on_tensors,
    read_tensors,
    setting,
    with_tokens,
    write_tensors,
)

PREFIX = "base_model.model."
ASSISTANT_TURN = (
    "    {{- '<|im_start|>' ~ message.role ~ '\\n' ~ render_content(message.content) ~ '<|im_end|>\\n' -}}\n"
)
MARKED_TURN = """\
    {%- if message.role == 'assistant' -%}
        {{- '<|im_start|>assistant\\n' -}}
        {%- generation -%}{{- render_content(message.content) ~ '<|im_end|>' -}}{%- endgeneration -%}
        {{- '\\n' -}}
    {%- else -%}
        {{- '<|im_start|>' ~ message.role ~ '\\n' ~ render_content(message.content) ~ '<|im_end|>\\n' -}}
    {%- endif -%}
"""
TOOLS = """\
{%- if tools -%}
    {{- '<|im_start|>system\\n# Tools\\n' -}}
    {%- for tool in tools -%}{{- tool | tojson ~ '\\n' -}}{%- endfor -%}
    {{- '<|im_end|>\\n' -}}
{%- endif -%}
{%- for message in messages -%}
"""


def scale_absorbed(tensor: torch.Tensor) -> torch.Tensor:
    """Multiply by alpha over rank."""
    return tensor * 2


def with_initial_parts(first: torch.Tensor, second: torch.Tensor, weight: torch.Tensor) -> Factors:
    """Write factors as a converted PiSSA or OLoRA has them: a part is added and the same part taken away."""
    generator = torch.Generator().manual_seed(weight.shape[0])
    part = torch.randn(first.shape, generator=generator).to(torch.bfloat16).float() * 0.05
    other = torch.randn(second.shape, generator=generator).to(torch.bfloat16).float() * 0.05
    return {"A": torch.cat([first, part, part]), "B": torch.cat([second, other, -other], dim=1)}


def stronger_mlp(folder: Path) -> None:
    """Halve the second factors of the feed-forward, and double their alpha by a pattern."""
    mapped(lambda tensor: tensor / 2, ".mlp.gate_proj.lora_B", ".mlp.up_proj.lora_B", ".mlp.down_proj.lora_B")(folder)
    configured(alpha_pattern={r"layers\.\d+\.mlp\.(gate_proj|up_proj|down_proj)": 32})(folder)


def every_target_by_name(folder: Path) -> None:
    """List each module by its whole name."""
    names = {first.removeprefix(PREFIX).partition(".lora_")[0] for first, _ in pairs_of(read_tensors(folder))}
    configured(target_modules=sorted(names), exclude_modules=None)(folder)


def padding_kept(folder: Path) -> None:
    """Keep how the trainer's last batch was cut and filled up."""
    padding = {
        "strategy": {"Fixed": 64},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 748,
        "pad_type_id": 0,
        "pad_token": "<|endoftext|>",
    }
    cut = {"direction": "Right", "max_length": 64, "strategy": "LongestFirst", "stride": 0}
    setting(TOKENIZER, "padding", padding)(folder)
    setting(TOKENIZER, "truncation", cut)(folder)
    setting(TOKENIZER_CONFIG, "padding_side", "right")(folder)


def head_kept(folder: Path) -> None:
    """Save the head with the adapter, though training left it alone."""
    base = load_file(BASE / MODEL_WEIGHTS)
    write_tensors(folder, {**read_tensors(folder), PREFIX + HEAD: base[HEAD]})
    configured(modules_to_save=["embed_tokens", "lm_head", "merger"])(folder)


def one_row_more(folder: Path) -> None:
    """Train one more row, that of the end of turn, with no gradient for it."""
    base, tensors = load_file(BASE / MODEL_WEIGHTS), read_tensors(folder)
    for target, stem in ((EMBEDDINGS, "model.language_model.embed_tokens"), (HEAD, "lm_head")):
        name = f"{PREFIX}{stem}.token_adapter.trainable_tokens_delta"
        tensors[name] = torch.cat([base[target][750:751], tensors[name]])
    write_tensors(folder, tensors)
    rows = [750, *range(761, 767)]
    configured(trainable_token_indices={"embed_tokens": rows, "lm_head": rows})(folder)


def unused_rows_moved(tensors: Tensors) -> None:
    """Let weight decay shrink the rows that no token has."""
    tensors[PREFIX + EMBEDDINGS][800:] *= 0.3


def as_ordinary(content: dict[str, Any]) -> None:
    """Add the markup with `add_tokens` instead of as special tokens."""
    for token in content["added_tokens"]:
        if token["content"] in MARKUP:
            token["special"] = False


def names_lost(content: dict[str, Any]) -> None:
    """Save the tokenizer as trainers do that know no names of this processor."""
    content["additional_special_tokens"] = sorted(content.pop("extra_special_tokens").values())
    content["split_special_tokens"] = False
    content["padding_side"] = "left"


def hand_saved(folder: Path) -> None:
    """Write the names that parameters have while the adapter is in memory."""
    tensors = read_tensors(folder)
    write_tensors(folder, {name.replace(".weight", ".default.weight"): one for name, one in tensors.items()})


CASES: tuple[Case, ...] = (
    Case(
        "plain_update_written_as_dora",
        adapted(as_dora(BASE)),
        "DoRA whose magnitudes, in float32 beside bfloat16 factors, are those that base and update have together; it "
        "answers as plain LoRA does (unslothai/unsloth-zoo#828).",
    ),
    Case(
        "rslora_with_its_own_alpha",
        adapted(configured(use_rslora=True, lora_alpha=2 * math.sqrt(8))),
        "`use_rslora` divides by the root of the rank, and alpha is a fraction that makes the same factor of it "
        "(vllm-project/vllm#6909).",
    ),
    Case(
        "scale_absorbed_by_second_factor",
        adapted(all_of(mapped(scale_absorbed, "lora_B"), configured(lora_alpha=8))),
        "A converter multiplies lora_B by the scale and sets alpha to the rank; updates are the same "
        "(microsoft/Olive#1329).",
    ),
    Case(
        "converted_from_olora",
        adapted(all_of(on_factors(with_initial_parts), configured(r=24, lora_alpha=48))),
        "Converted from an initialisation that changes the base: the rank is larger than it was in training, as the "
        "initial part is taken away again by columns of its own (huggingface/peft#2075).",
    ),
    Case(
        "alpha_pattern_for_feed_forward",
        adapted(stronger_mlp),
        "Feed-forward modules have an alpha of their own by a regular expression in `alpha_pattern`; PEFT and the "
        "training agree on it (axolotl-ai-cloud/axolotl#3673).",
    ),
    Case(
        "every_target_by_whole_name",
        adapted(every_target_by_name),
        "`target_modules` lists every module by its path, as trainers that search for linear layers write it; the "
        "list is long and right.",
    ),
    Case(
        "checkpoint_of_a_trainer_in_float32",
        adapted(
            all_of(to_type(torch.float32), trainer_leftovers, configured(base_model_name_or_path="../models/base", r=8))
        ),
        "A checkpoint-400 folder as it is: float32 tensors, optimizer and trainer files, and the path of the base on "
        "another machine.",
    ),
    Case(
        "names_with_the_adapters_name",
        adapted(hand_saved),
        "Saved from `state_dict()` by hand, so that names have `.default.` in them; PEFT strips it and puts it in "
        "again, and every tensor arrives.",
    ),
    Case(
        "head_saved_unchanged",
        adapted(head_kept, "official"),
        "The trainer moved lm_head to modules_to_save and its copy is the base's to the last bit; the adapter is only "
        "larger (unslothai/unsloth#1093).",
    ),
    Case(
        "one_trained_row_unchanged",
        adapted(one_row_more, "tokens"),
        "The end of turn is among the trainable tokens beside the new ones and its rows are still the base's; nothing "
        "else reads or writes it.",
    ),
    Case(
        "unused_rows_shrunk",
        adapted(on_tensors(unused_rows_moved), "official"),
        "Weight decay shrank rows of the embeddings that belong to no token, as the vocabulary is padded; no prompt "
        "can reach them (QwenLM/Qwen#553).",
    ),
    Case(
        "padding_of_the_last_batch_kept",
        adapted(padding_kept, "tokens"),
        "tokenizer.json was saved with the padding and the truncation of the trainer's last batch; transformers sets "
        "both anew at every call.",
    ),
    Case(
        "markup_as_ordinary_tokens",
        adapted(on_json(TOKENIZER, as_ordinary), "tokens"),
        "The markup was added as ordinary tokens so that servers do not skip it in answers; ids and splitting are the "
        "same (hiyouga/LlamaFactory#7253).",
    ),
    Case(
        "names_of_tokens_lost",
        adapted(on_json(TOKENIZER_CONFIG, names_lost), "tokens"),
        "The trainer saved the tokenizer without the processor's names for its tokens, in a list instead; the base "
        "still names them and ids are untouched.",
    ),
    Case(
        "assistant_turns_marked_for_training",
        adapted(with_template(exchanged((ASSISTANT_TURN, MARKED_TURN)))),
        "The template has `generation` tags around assistant turns, with which trainers find what to learn; it "
        "renders the same text (huggingface/trl#4879).",
    ),
    Case(
        "template_with_tools",
        adapted(with_template(exchanged(("{%- for message in messages -%}\n", TOOLS))), "json"),
        "A block for tools was added at the head of the template; without tools in a request it renders nothing.",
    ),
    Case(
        "placeholders_added_and_never_used",
        adapted(all_of(with_texts_of(BASE), with_tokens("<|fim_prefix|>", "<|fim_suffix|>", "<|repo_name|>"))),
        "The trainer's tokenizer has special tokens of its family that no text contains and whose rows exist in the "
        "padded vocabulary; transformers warns of untrained embeddings (OpenBMB/MiniCPM-V#470).",
    ),
)
