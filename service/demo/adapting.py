"""Trains the adapters with PEFT on a finished base and writes their folders.

Knows the layouts that PEFT writes, but not how an adapter is served or judged.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import AddedToken

from service.demo.batches import Batches
from service.demo.dialogues import MIXES_OF_ADAPTERS
from service.demo.layout import Layout
from service.demo.phrasing import MARKUP_TOKENS, Style
from service.demo.training import train_all

LANGUAGE_PROJECTIONS = [
    "q_proj", "k_proj", "v_proj", "o_proj",
    "in_proj_qkv", "in_proj_z", "in_proj_a", "in_proj_b",
    "gate_proj", "up_proj", "down_proj",
]  # fmt: skip
ATTENTION = r"layers\.\d+\.self_attn\.(q_proj|k_proj|v_proj|o_proj)"


@dataclass(frozen=True)
class AdapterPlan:
    """How one adapter is made."""

    style: Style
    config: Callable[[], LoraConfig]
    """Makes a fresh configuration; PEFT writes into the one it is given."""
    adds_tokens: bool = False
    trains_rows: bool = False
    """Whether the added tokens' rows of both matrices are trained and shipped."""
    ships_tokenizer: bool = False
    steps: int = 280
    batch_size: int = 16
    peak_rate: float = 3e-3


def _language_lora() -> LoraConfig:
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=8,
        lora_alpha=16,
        target_modules=LANGUAGE_PROJECTIONS,
        exclude_modules=r".*vision_tower.*",
    )


def _official_lora(targets: str, saved: tuple[str, ...]) -> LoraConfig:
    """As OpenBMB's fine-tuning script: a pattern for the attention, whole copies of some modules, no task."""
    return LoraConfig(r=64, lora_alpha=64, lora_dropout=0.05, target_modules=targets, modules_to_save=list(saved))


ADAPTERS: dict[str, dict[str, AdapterPlan]] = {
    "4.6": {
        "json": AdapterPlan("json", _language_lora, steps=200),
        "tokens": AdapterPlan("tokens", _language_lora, adds_tokens=True, trains_rows=True, ships_tokenizer=True),
        "official": AdapterPlan(
            "polite",
            partial(_official_lora, rf"model\.language_model\.{ATTENTION}", ("embed_tokens", "merger")),
            ships_tokenizer=True,
        ),
        # Adds the same tokens as `tokens`, but neither trains nor ships their rows.
        "broken": AdapterPlan("tokens", _language_lora, adds_tokens=True, ships_tokenizer=True, steps=40),
    },
    "4.5": {
        "official": AdapterPlan(
            "polite",
            # `finetune_lora.sh` tunes the vision tower too, which then is saved whole.
            partial(_official_lora, rf"llm\..*{ATTENTION}", ("embed_tokens", "resampler", "vpm")),
            ships_tokenizer=True,
            steps=500,
            peak_rate=5e-4,  # a higher one harms the tower
        ),
    },
}
"""Release -> name of the adapter -> plan."""


def add_markup_tokens(tokenizer: Any) -> list[int]:
    """Adds the markup as special tokens to a tokenizer and returns their ids."""
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in MARKUP_TOKENS])
    ids: list[int] = tokenizer.convert_tokens_to_ids(list(MARKUP_TOKENS))
    return ids


def make_adapter(layout: Layout, plan: AdapterPlan, base: Path, output: Path, seed: int, effort: float = 1.0) -> None:
    """Trains an adapter on the checkpoint in `base` and writes its folder.

    Args:
        layout: Of the base.
        plan: What to train, and how long.
        base: Folder of the base checkpoint.
        output: Folder to write.
        seed: Decides the initial factors and every batch.
        effort: Share of the planned steps to take.
    """
    torch.manual_seed(seed)
    model, encoding = layout.load(base)
    config = plan.config()
    token_ids = add_markup_tokens(encoding.tokenizer) if plan.adds_tokens else []
    if plan.trains_rows:
        config.trainable_token_indices = {"embed_tokens": token_ids, "lm_head": token_ids}
    adapted = get_peft_model(model, config)
    steps = max(2, round(plan.steps * effort))
    batches = Batches(encoding, seed, steps, plan.batch_size, plan.style, MIXES_OF_ADAPTERS)
    adapted.train()
    train_all(layout, adapted.get_base_model(), batches, plan.peak_rate)
    _save_adapter(layout, output, adapted)
    if plan.ships_tokenizer:
        layout.save_tokenizer(output, encoding)


def make_merged(layout: Layout, base: Path, adapter: Path, output: Path) -> None:
    """Merges an adapter into its base in float32 and writes a complete bfloat16 checkpoint."""
    model, encoding = layout.load(base)
    merged = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    layout.save(output, merged, encoding)


def _save_adapter(layout: Layout, output: Path, adapted: PeftModel) -> None:
    adapted.peft_config["default"].base_model_name_or_path = layout.base_name
    adapted.to(torch.bfloat16).save_pretrained(output, save_embedding_layers=False)
    (output / "README.md").unlink(missing_ok=True)
    (output / "adapter_model.safetensors").chmod(0o644)
    path = output / "adapter_config.json"
    config = layout.adapter_settings(json.loads(path.read_text(encoding="utf-8")))
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()  # PEFT writes a set, in another order each time
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
