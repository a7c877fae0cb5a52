"""Adapters of every kind, as PEFT itself makes them with random numbers, and the comparison of a row with its view."""

import copy
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tiny
import torch
from peft import LoraConfig, TrainableTokensConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    LlamaConfig,
    LlamaForCausalLM,
)

from service.demo import demo_root
from service.engine.adapters import mount
from service.engine.rowwise import RowWise, row_wise

CLOSE = 1e-5
"""Largest difference of logits, as a share of the largest logit, in float32."""
SAME = 1e-6
"""The same for rows of the base; zero would do but for MKL, whose sums depend on where in memory a batch lies."""
IDS = [5, 9, 17]
"""Tokens with rows of their own; the questions contain them."""
LINEAR = ["q_proj", "q_b_proj", "kv_b_proj", "o_proj", "up_proj", "down_proj"]
EMBED, HEAD = "embed_tokens", "lm_head"


def lora(**values: Any) -> LoraConfig:
    return LoraConfig(**{"r": 4, "lora_alpha": 6, "target_modules": LINEAR, "task_type": "CAUSAL_LM", **values})


BATCHED: dict[str, Any] = {
    "plain": lora(),
    "all_linear": lora(target_modules="all-linear", r=3),
    "ranks": lora(rank_pattern={"up_proj": 7, r"layers\.0.*o_proj": 2}, alpha_pattern={"down_proj": 9}),
    "rslora": lora(use_rslora=True, r=5),
    "dora": lora(use_dora=True),
    "dora_everywhere": lora(use_dora=True, target_modules=[*LINEAR, EMBED, HEAD]),
    "embedding": lora(target_modules=[*LINEAR, EMBED]),
    "only_embedding": lora(target_modules=[EMBED], r=2),
    "head": lora(target_modules=[HEAD], r=2),
    "both": lora(target_modules=[*LINEAR, EMBED, HEAD]),
    "both_tied": lora(target_modules=[*LINEAR, EMBED, HEAD], ensure_weight_tying=True),
    "saved_embedding": lora(modules_to_save=[EMBED]),
    "saved_head": lora(modules_to_save=[HEAD]),
    "saved_both": lora(modules_to_save=[EMBED, HEAD]),
    "saved_tied": lora(modules_to_save=[EMBED], ensure_weight_tying=True),
    "saved_linear": lora(target_modules=["o_proj"], modules_to_save=["down_proj"]),
    "tokens": lora(trainable_token_indices=IDS),
    "tokens_tied": lora(trainable_token_indices=IDS[:2], ensure_weight_tying=True),
    "tokens_both": lora(use_dora=True, trainable_token_indices={EMBED: IDS[1:], HEAD: IDS[1:]}),
    "tokens_apart": lora(trainable_token_indices={EMBED: IDS[1:], HEAD: IDS[:1]}),
    "only_tokens": TrainableTokensConfig(token_indices=IDS, target_modules=[EMBED], task_type="CAUSAL_LM"),
    "bias_all": lora(bias="all"),
    "bias_lora_only": lora(bias="lora_only"),
    "lora_bias": lora(lora_bias=True),
    "dora_bias": lora(use_dora=True, bias="all"),
    "mixture": lora(
        use_dora=True, use_rslora=True, target_modules=[*LINEAR, EMBED], modules_to_save=[HEAD], bias="all"
    ),
}


@dataclass
class Case:
    base: Any
    views: Mapping[str, Any]
    tree: RowWise


def trained(base: Any, config: Any, folder: Path) -> Path:
    """Save an adapter whose every trainable number was moved."""
    torch.manual_seed(zlib.crc32(folder.name.encode()))
    model = get_peft_model(copy.deepcopy(base), config)
    with torch.no_grad():
        for name, one in model.named_parameters():
            if one.requires_grad:
                spread = 1.0 if ".lora_" in name and "magnitude" not in name else float(one.std())
                one += (0.1 * spread + 0.01) * torch.randn_like(one)
    model.save_pretrained(folder)
    return folder


def number(case: Case, *names: str | None) -> list[int]:
    return [case.tree.batched[name] if name else 0 for name in names]


def build(base: Any, folders: Mapping[str, Path]) -> Case:
    views = {name: mount(base, folder).model for name, folder in folders.items()}
    return Case(base, views, row_wise(base, views))


def biased_llama() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        **tiny.TEXT, vocab_size=200, attention_bias=True, mlp_bias=True, tie_word_embeddings=True, bos_token_id=None
    )
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for name, one in model.named_parameters():
            if name.endswith("bias"):
                one.normal_()
    return model


def load_base(name: str, folder: Path) -> Any:
    if name == "biased llama":
        return biased_llama()
    if name == "demo":
        return AutoModelForImageTextToText.from_pretrained(demo_root() / "base", dtype=torch.float32).eval()
    auto = AutoModelForCausalLM if name.startswith("causal") else AutoModelForImageTextToText
    return auto.from_pretrained(tiny.make(name, folder)).eval()


def questions(num_rows: int, num_tokens: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(num_rows * 100 + num_tokens)
    ids = torch.randint(20, 150, (num_rows, num_tokens), generator=generator)
    return torch.where(torch.rand(ids.shape, generator=generator) < 0.4, torch.tensor(IDS)[ids % len(IDS)], ids)


def logits_of(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = model(input_ids=ids, use_cache=True).logits
    return logits


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max())


def assert_rows(case: Case, names: tuple[str | None, ...], num_tokens: int, close: float = CLOSE) -> None:
    """Run a batch in which each row has the named adapter, and compare each row with its view alone.

    The base's rows are compared with the base's own batch.
    """
    ids = questions(len(names), num_tokens)
    case.tree.routing.set(number(case, *names))
    mixed = logits_of(case.tree.model, ids)
    plain = logits_of(case.base, ids)
    for row, name in enumerate(names):
        if name is None:
            assert difference(mixed[row], plain[row]) <= SAME, (names, row)
            continue
        alone = logits_of(case.views[name], ids[row : row + 1])[0]
        assert difference(mixed[row], alone) <= close, (name, difference(mixed[row], alone))
