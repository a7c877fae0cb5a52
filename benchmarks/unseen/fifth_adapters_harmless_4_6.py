"""Sound adapters over the demo of MiniCPM-V 4.6 that look unusual."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from benchmarks.unseen.case import Case
from benchmarks.unseen.fifth_adapters_editing import RANK, padded, scaled_in, to_dora, with_settings
from benchmarks.unseen.fourth_editing import ADAPTER_CONFIG, TEMPLATE, trainer_leftovers
from benchmarks.unseen.third_4_6_editing import (
    BASE,
    EMBEDDINGS,
    HEAD,
    MODEL_WEIGHTS,
    Tensors,
    adapted,
    all_of,
    mapped,
    on_tensors,
    replacing,
    setting,
    write_json,
)


def _with_rows_of_the_base(tensors: Tensors) -> None:
    base = load_file(BASE / MODEL_WEIGHTS)
    for name in (EMBEDDINGS, HEAD):
        tensors[f"base_model.model.{name}"] = base[name]


def _with_scale_inside(adapter: Path) -> None:
    scaled_in(adapter, 2.0)
    with_settings({"lora_alpha": RANK})(adapter)


def _in_reverse(adapter: Path) -> None:
    mapped(lambda one: one.flip(0), "trainable_tokens_delta")(adapter)
    backwards = [766, 765, 764, 763, 762, 761]
    setting(ADAPTER_CONFIG, "trainable_token_indices", {"lm_head": backwards, "embed_tokens": backwards})(adapter)


def _files_of_swift(adapter: Path) -> None:
    write_json(adapter / "additional_config.json", {"lora_dtype": None, "lorap_lr_ratio": None, "lorap_emb_lr": 1e-6})
    write_json(adapter / "args.json", {"model_type": "minicpmv4_6", "train_type": "lora", "lora_rank": RANK})
    trainer_leftovers(adapter)


CASES = (
    Case(
        "ranks_padded_with_zeros",
        adapted(padded),
        "A server that swaps adapters of one shape had the factors padded with zeros to a greater rank, and alpha "
        "with them; the product is the same.",
    ),
    Case(
        "dora_that_adds_nothing",
        adapted(to_dora),
        "The adapter is DoRA, whose magnitudes are those of the sums, so that it computes what plain LoRA would.",
    ),
    Case(
        "transposed_by_its_settings",
        adapted(setting(ADAPTER_CONFIG, "fan_in_fan_out", True)),
        "The settings were copied from those for a model with transposed layers; PEFT warns and goes by the real "
        "layers.",
    ),
    Case(
        "biases_that_are_not_there",
        adapted(setting(ADAPTER_CONFIG, "bias", "lora_only")),
        "The trainer was told to train biases too, but no adapted layer has one; nothing more is saved or missing.",
    ),
    Case(
        "settings_of_a_later_peft",
        adapted(with_settings({"peft_version": "0.99.0", "tomorrow_config": None, "use_tomorrow": False})),
        "A later PEFT wrote settings that this one does not know, all of them off; it warns and leaves them out. "
        "(huggingface/peft#2275)",
    ),
    Case(
        "files_of_the_trainer_beside",
        adapted(_files_of_swift),
        "The trainer left its arguments, its own settings and the state of the run beside the adapter; nobody reads "
        "them.",
    ),
    Case(
        "rows_of_the_base_saved_along",
        adapted(on_tensors(_with_rows_of_the_base)),
        "PEFT saves embeddings and head along when the vocabulary seems to have been resized; untrained, they are the "
        "base's own. (unslothai/unsloth-zoo#957)",
    ),
    Case(
        "targets_as_one_expression",
        adapted(
            setting(
                ADAPTER_CONFIG,
                "target_modules",
                r"(?:.*?language_model.*?(?:self_attn|linear_attn|mlp).*?"
                r"(?:q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj|in_proj_qkv|in_proj_z|in_proj_a|in_proj_b))",
            )
        ),
        "Unsloth writes the modules of the language part as one long expression; it names the same ones as the list.",
    ),
    Case(
        "scale_inside_the_factors",
        adapted(_with_scale_inside),
        "A converter without a scale of its own worked it into the second factors and made alpha the rank; the "
        "update is the same.",
    ),
    Case(
        "trained_rows_in_another_order",
        adapted(_in_reverse, "tokens"),
        "The new tokens were listed backwards for training, and their rows lie in that order; PEFT goes by the list.",
    ),
    Case(
        "weights_tied_by_its_settings",
        adapted(setting(ADAPTER_CONFIG, "ensure_weight_tying", True), "official"),
        "The trainer sets the flag that keeps tied matrices tied; this model has none, so that it does nothing. "
        "(unslothai/unsloth#9331)",
    ),
    Case(
        "alpha_for_each_kind",
        adapted(
            all_of(
                setting(ADAPTER_CONFIG, "lora_alpha", 64),
                setting(ADAPTER_CONFIG, "alpha_pattern", {r".*_proj": 16, r"in_proj_\w+": 16}),
            )
        ),
        "Each kind of layer has an alpha of its own by a pattern, all of them alike, and the common one is used "
        "nowhere. (axolotl-ai-cloud/axolotl#3673)",
    ),
    Case(
        "template_that_marks_answers",
        adapted(
            replacing(
                TEMPLATE,
                (
                    "{{- '<|im_start|>' ~ message.role ~ '\\n' ~ render_content(message.content) ~ '<|im_end|>\\n' -}}",
                    "{%- if message.role == 'assistant' -%}{{- '<|im_start|>assistant\\n' -}}{%- generation -%}"
                    "{{- render_content(message.content) ~ '<|im_end|>' -}}{%- endgeneration -%}{{- '\\n' -}}"
                    "{%- else -%}{{- '<|im_start|>' ~ message.role ~ '\\n' ~ render_content(message.content) ~ "
                    "'<|im_end|>\\n' -}}{%- endif -%}",
                ),
            ),
            "tokens",
        ),
        "The trainer marked the assistant's part in the template, so that the loss is taken over answers only; the "
        "text is the same.",
    ),
    Case(
        "still_to_be_trained_by_its_settings",
        adapted(
            all_of(
                with_settings({"inference_mode": False, "lora_dropout": 0.1, "task_type": None}),
                with_settings({"base_model_name_or_path": "openbmb/MiniCPM-V-4_6", "revision": "main"}),
                mapped(lambda one: one.to(torch.float32), "lora_"),
            )
        ),
        "A checkpoint from the middle of training, in float32, with dropout and without a kind of task; dropout is "
        "off when it answers.",
    ),
)
