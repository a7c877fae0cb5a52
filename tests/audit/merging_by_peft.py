"""Lets PEFT merge adapters, and puts the result where a merged folder is."""

import shutil
from typing import Any

import torch
from pairs import Pair

from tests.builders import TOKENIZER_FILES

PROJECTIONS = ["q_proj", "k_proj", "up_proj", "in_proj_qkv"]


def peft_merge(
    pair: Pair, *, dtype: torch.dtype = torch.float32, save_as: torch.dtype | None = None, **settings: Any
) -> None:
    """Train nothing, but fill an adapter with numbers, and let PEFT write it and merge it."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForImageTextToText

    torch.manual_seed(1)
    model = AutoModelForImageTextToText.from_pretrained(pair.origin, dtype=dtype)
    wrapped = get_peft_model(model, LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": PROJECTIONS, **settings}))
    with torch.no_grad():
        for name, one in wrapped.named_parameters():
            if one.requires_grad and "lora_" in name and "magnitude" not in name:
                one.copy_(torch.randn_like(one) * 0.05)
            elif one.requires_grad:
                one.add_(torch.randn_like(one) * 0.02)
    shutil.rmtree(pair.adapter)
    wrapped.save_pretrained(pair.adapter)
    merged = wrapped.merge_and_unload()
    pair.tuned_weights.unlink()
    merged.to(save_as or dtype).save_pretrained(pair.tuned)


def merge_in_float32(pair: Pair, dtype: torch.dtype) -> None:
    """Let PEFT merge, and store the result in some type."""
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(pair.origin, dtype=torch.float32)
    merged = PeftModel.from_pretrained(model, pair.adapter).merge_and_unload()
    pair.tuned_weights.unlink()
    merged.to(dtype).save_pretrained(pair.tuned)
    take_tokenizer_over(pair)


def take_tokenizer_over(pair: Pair) -> None:
    """Copy the tokenizer that the adapter was trained with, where it brings one."""
    for name in TOKENIZER_FILES:
        if (pair.adapter / name).exists():
            shutil.copyfile(pair.adapter / name, pair.tuned / name)
