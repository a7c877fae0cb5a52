"""Adapters of every kind that PEFT makes, with random weights, on the demo, so that their answers differ."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import IA3Config, LoHaConfig, LoraConfig, get_peft_model
from transformers import AutoModelForImageTextToText

from service.demo import demo_root

LINEARS = r".*language_model.*\.(q_proj|v_proj|o_proj|in_proj_qkv|out_proj|gate_proj|down_proj)"
MAKERS: dict[str, Callable[[], Any]] = {
    "ranks": lambda: LoraConfig(
        r=4,
        lora_alpha=9,
        target_modules=LINEARS,
        rank_pattern={"q_proj": 7},
        alpha_pattern={"v_proj": 3},
        use_rslora=True,
    ),
    "dora": lambda: LoraConfig(r=3, target_modules=LINEARS, use_dora=True),
    "embeddings": lambda: LoraConfig(r=2, target_modules=["embed_tokens", "lm_head", "q_proj"]),
    "saved": lambda: LoraConfig(r=2, target_modules=LINEARS, modules_to_save=["lm_head", "embed_tokens", "merger"]),
    "rows": lambda: LoraConfig(
        r=2, target_modules=LINEARS, trainable_token_indices={"embed_tokens": [5, 750], "lm_head": [5, 9]}
    ),
    "vision": lambda: LoraConfig(r=4, target_modules=r".*(vision_tower|merger).*(q_proj|fc1|linear_1)"),
    "ia3": lambda: IA3Config(target_modules=["v_proj", "down_proj"], feedforward_modules=["down_proj"]),
    "loha": lambda: LoHaConfig(r=2, target_modules=["q_proj", "gate_proj"]),
    "norms": lambda: LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["input_layernorm"]),
}


def make_all(folder: Path) -> dict[str, Path]:
    """Write one adapter of each kind."""
    for number, (name, config) in enumerate(MAKERS.items()):
        torch.manual_seed(number)
        model = AutoModelForImageTextToText.from_pretrained(demo_root() / "base", dtype=torch.float32)
        peft_model = get_peft_model(model, config())
        with torch.no_grad():
            for one in peft_model.parameters():
                if one.requires_grad:
                    one.add_(torch.randn_like(one) * 0.03 * max(float(one.std()) if one.numel() > 1 else 0.0, 0.3))
        peft_model.save_pretrained(folder / name)
    return {name: folder / name for name in MAKERS}
