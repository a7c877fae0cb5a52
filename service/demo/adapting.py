"""Trains the four adapters with PEFT on the finished base and writes their folders.

Knows the layouts that PEFT writes, but not how an adapter is served or judged.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import AddedToken
from transformers import AutoModelForImageTextToText, AutoProcessor, MiniCPMV4_6Processor

from service.demo.batches import Batches
from service.demo.building import name_special_tokens, save_checkpoint
from service.demo.dialogues import MIXES_OF_ADAPTERS
from service.demo.phrasing import MARKUP_TOKENS, Style
from service.demo.training import train_all

BASE_NAME = "minicpm-demo"  # stands in the adapters' configuration where PEFT would write a path
LANGUAGE_PROJECTIONS = [
    "q_proj", "k_proj", "v_proj", "o_proj",
    "in_proj_qkv", "in_proj_z", "in_proj_a", "in_proj_b",
    "gate_proj", "up_proj", "down_proj",
]  # fmt: skip
OFFICIAL_TARGETS = r"model\.language_model\.layers\.\d+\.self_attn\.(q_proj|k_proj|v_proj|o_proj)"


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


def _official_layout() -> LoraConfig:
    """As OpenBMB's fine-tuning script: a pattern for the attention, whole copies of two modules, no task."""
    return LoraConfig(
        r=64,
        lora_alpha=64,
        lora_dropout=0.05,
        target_modules=OFFICIAL_TARGETS,
        modules_to_save=["embed_tokens", "merger"],
    )


ADAPTERS: dict[str, AdapterPlan] = {
    "json": AdapterPlan("json", _language_lora, steps=200),
    "tokens": AdapterPlan("tokens", _language_lora, adds_tokens=True, trains_rows=True, ships_tokenizer=True),
    "official": AdapterPlan("polite", _official_layout, ships_tokenizer=True, peak_rate=3e-3),
    # Adds the same tokens as `tokens`, but neither trains nor ships their rows.
    "broken": AdapterPlan("tokens", _language_lora, adds_tokens=True, ships_tokenizer=True, steps=40),
}


def add_markup_tokens(processor: MiniCPMV4_6Processor) -> list[int]:
    """Adds the markup as special tokens to the processor's tokenizer and returns their ids."""
    tokenizer = processor.tokenizer
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in MARKUP_TOKENS])
    ids: list[int] = tokenizer.convert_tokens_to_ids(list(MARKUP_TOKENS))
    return ids


def make_adapter(name: str, base: Path, output: Path, seed: int, effort: float = 1.0) -> None:
    """Trains the adapter `name` on the checkpoint in `base` and writes its folder.

    Args:
        name: A key of `ADAPTERS`.
        base: Folder of the base checkpoint.
        output: Folder to write.
        seed: Decides the initial factors and every batch.
        effort: Share of the planned steps to take.
    """
    plan = ADAPTERS[name]
    torch.manual_seed(seed)
    processor = AutoProcessor.from_pretrained(base)
    model = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32)
    config = plan.config()
    token_ids = add_markup_tokens(processor) if plan.adds_tokens else []
    if plan.trains_rows:
        config.trainable_token_indices = {"embed_tokens": token_ids, "lm_head": token_ids}
    adapted = get_peft_model(model, config)
    steps = max(2, round(plan.steps * effort))
    batches = Batches(processor, seed, steps, plan.batch_size, plan.style, MIXES_OF_ADAPTERS)
    adapted.train()
    train_all(adapted.get_base_model(), batches, plan.peak_rate)
    _save_adapter(output, adapted)
    if plan.ships_tokenizer:
        processor.tokenizer.save_pretrained(output)
        name_special_tokens(output)


def make_merged(base: Path, adapter: Path, output: Path) -> None:
    """Merges an adapter into its base in float32 and writes a complete bfloat16 checkpoint."""
    model = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32)
    merged = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    save_checkpoint(output, merged, AutoProcessor.from_pretrained(base))


def _save_adapter(output: Path, adapted: PeftModel) -> None:
    adapted.peft_config["default"].base_model_name_or_path = BASE_NAME
    adapted.to(torch.bfloat16).save_pretrained(output, save_embedding_layers=False)
    (output / "README.md").unlink(missing_ok=True)
    (output / "adapter_model.safetensors").chmod(0o644)
    path = output / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()  # PEFT writes a set, in another order each time
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
