"""Broken adapters of 4.5: their weights, settings, and texts."""

from pathlib import Path

import torch

from benchmarks.unseen.case import Case
from benchmarks.unseen.fourth_editing import (
    TEMPLATE,
    TOKENIZER_CONFIG,
    adapted_4_5,
    on_tensor,
)
from benchmarks.unseen.tenth_adapters_editing import PREFIX, config
from benchmarks.unseen.third_4_6_editing import (
    adapted,
    all_of,
    mapped,
    read_tensors,
    renamed,
    setting,
    without_setting,
    without_tensors,
)

SEEN = ("vpm.", "resampler.", "embed_tokens.")
EMBEDDINGS = PREFIX + "llm.model.embed_tokens.weight"
TRAINERS_TEMPLATE = (
    "{%- if messages[0]['role'] == 'system' -%}{%- set loop_messages = messages[1:] -%}"
    "{%- set system_message = messages[0]['content'] -%}{%- else -%}{%- set loop_messages = messages -%}{%- endif -%}"
    "{%- if system_message is defined -%}{{ system_message + '\\n' }}{%- endif -%}"
    "{%- for message in loop_messages -%}{%- set content = message['content'] -%}"
    "{%- if message['role'] == 'user' -%}"
    "{{ '<|im_start|>user\\n' + content + '<|im_end|>\\n<|im_start|>assistant\\n' }}"
    "{%- elif message['role'] == 'assistant' -%}{{ content + '<|im_end|>\\n' }}{%- endif -%}{%- endfor -%}"
)
GENERATION_PROMPT = "{%- if add_generation_prompt -%}"


def as_first_script(folder: Path) -> None:
    """Save what is not LoRA in a file of its own, as the first official script did."""
    tensors = read_tensors(folder)
    apart = {name: one for name, one in tensors.items() if ".lora_" not in name}
    torch.save(apart, folder / "vpm_resampler_embedtokens.pt")
    all_of(without_tensors(*SEEN), config(modules_to_save=None))(folder)


def without_generation_prompt(folder: Path) -> None:
    """Cut off the end of a template, which opens the assistant's turn."""
    text = (folder / TEMPLATE).read_text(encoding="utf-8")
    (folder / TEMPLATE).write_text(text.split(GENERATION_PROMPT)[0], encoding="utf-8")


CASES: tuple[Case, ...] = (
    Case(
        "adapter_that_was_named_lora",
        adapted_4_5(renamed(lambda name: name.replace(".lora_A", "_A").replace(".lora_B", "_B"))),
        "The adapter was called `lora` in training, and taking its name out of the keys took part of `lora_A` with "
        "it; on loading every factor is missing (huggingface/peft#2699).",
        ("_A.weight", "_B.weight", "lora_A", "lora_B", "unexpected"),
    ),
    Case(
        "seeing_modules_not_saved",
        adapted_4_5(without_tensors("vpm.", "resampler.")),
        "The script trained the vision tower and the resampler but did not save them with the adapter; the base's "
        "stand in for them (OpenBMB/MiniCPM-V#222).",
        ("vpm", "resampler", "modules_to_save"),
    ),
    Case(
        "seeing_modules_saved_apart",
        adapted_4_5(as_first_script),
        "An early script put tower, resampler and embeddings into `vpm_resampler_embedtokens.pt` beside the LoRA "
        "factors, where PEFT does not look (OpenBMB/MiniCPM-V#272).",
        ("vpm_resampler_embedtokens", "resampler", "vpm", ".pt", "embed_tokens"),
    ),
    Case(
        "nan_after_half_precision",
        adapted_4_5(mapped(lambda one: torch.full_like(one, torch.nan), "layers.2.self_attn.v_proj.lora_B")),
        "Training in half precision overflowed and the factors of a layer became NaN; every answer is garbage "
        "(bmaltais/kohya_ss#1986).",
        ("nan", "not finite", "v_proj", "layers.2"),
    ),
    Case(
        "embeddings_of_no_rows",
        adapted_4_5(on_tensor(EMBEDDINGS, lambda _: torch.zeros(0, dtype=torch.bfloat16))),
        "ZeRO-3 had the embeddings on other ranks when the adapter was saved, and a tensor of shape [0] was written; "
        "loading stops at it (huggingface/peft#2450).",
        ("embed_tokens", "size mismatch", "shape", "empty"),
    ),
    Case(
        "rank_pattern_of_another_adapter",
        adapted_4_5(config(rank_pattern={"q_proj": 32, "v_proj": 32})),
        "A combined adapter took over the first one's `rank_pattern`, which its factors, all of one rank, do not "
        "follow; it cannot be loaded again (huggingface/peft#3737).",
        ("rank_pattern", "size mismatch", "shape", "q_proj", "v_proj"),
    ),
    Case(
        "no_target_modules",
        adapted_4_5(config(target_modules=[])),
        "The search for linear layers found none, and the list of targets in the config is empty "
        "(wp931120/baichuan_sft_lora#1).",
        ("target_modules", "target modules", "no module"),
    ),
    Case(
        "tokenizer_without_its_template",
        adapted_4_5(without_setting(TOKENIZER_CONFIG, "chat_template")),
        "The trainer rendered prompts by a template of its own and saved the tokenizer with the adapter without any; "
        "no conversation can be written (ml-explore/mlx-examples#1243).",
        ("chat_template", "chat template", "no template", "without a template"),
    ),
    Case(
        "template_of_the_trainer",
        adapted_4_5(setting(TOKENIZER_CONFIG, "chat_template", TRAINERS_TEMPLATE)),
        "After LoRA the trainer saved a template of its own making in place of the release's; it drops the system "
        "prompt's turn and the thinking part, and prompts are other than any in training (hiyouga/LlamaFactory#5986).",
        ("chat_template", "template", "think", "system prompt"),
    ),
    Case(
        "special_tokens_split",
        adapted(setting(TOKENIZER_CONFIG, "split_special_tokens", True), "official"),
        "Saved from a trainer that had asked to split special tokens in the texts of users; `<|im_start|>` and the "
        "picture's place fall into letters (huggingface/transformers#31337).",
        ("split_special_tokens", "<|im_start|>", "<|image_pad|>", "special token"),
    ),
    Case(
        "template_for_training",
        adapted(without_generation_prompt, "official"),
        "The template for training, which never opens the assistant's turn, was left in the adapter's folder; at "
        "inference the model goes on from the end of the question (OpenBMB/MiniCPM-V#141).",
        ("add_generation_prompt", "generation prompt", "assistant", "chat_template"),
    ),
)
