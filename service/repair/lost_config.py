"""Rebuilds an adapter_config.json that was lost, from the tensors beside it, and says what they cannot tell.

Invents no value: without `lora_alpha` nothing is written.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.domain.factors import FIRST, LINEAR, MAGNITUDES, parts_in
from service.domain.facts import AdapterFacts, BaseFacts
from service.repair.adapters import CONFIG, trained_rows, unlisted_modules
from service.repair.change import Change

ARGUMENTS = "args.json"
UNTOLD = "<not in the tensors: fill in>"


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What became of a lost config.

    Attributes:
        changes: One, if the config was written.
        uncertain: What the tensors do not tell, each with what was taken for it.
        proposed: The config that was not written, with a place to fill in.
    """

    changes: tuple[Change, ...]
    uncertain: tuple[str, ...]
    proposed: Mapping[str, Any] | None = None


def rebuild_config(folder: Path, adapter: AdapterFacts, base: BaseFacts, alpha: float | None) -> Rebuilt:
    """Write the config of a LoRA adapter that has none that can be read.

    Args:
        folder: The copy to correct.
        adapter: Facts about the folder.
        base: What it is served on.
        alpha: `lora_alpha` of the training; None if the operator does not know it.
    """
    ranks = _ranks(adapter)
    if not ranks:
        return Rebuilt((), (f"{CONFIG} is lost, and the file holds no LoRA factors from which to rebuild it",))
    uncertain = [
        "use_rslora: false is taken; if training used rsLoRA, the update is multiplied by lora_alpha / sqrt(r) instead "
        "of lora_alpha / r",
        "init_lora_weights: true is taken; an adapter of PiSSA, OLoRA, CorDA or LoftQ belongs to a base that was taken "
        "apart",
        "alpha_pattern: none is taken; modules with an alpha of their own would be scaled wrongly",
    ]
    found, source = (alpha, "--lora-alpha") if alpha is not None else (_alpha(adapter), ARGUMENTS)
    config = _config(adapter, base, ranks)
    uncertain += _rows(config, adapter) + _biases(config, adapter)
    if found is None:
        said = (
            "lora_alpha: the tensors do not hold it, so nothing was written; take it from the trainer's arguments, and "
            "run again with --lora-alpha N"
        )
        return Rebuilt((), (said, *uncertain), {**config, "lora_alpha": UNTOLD})
    config["lora_alpha"] = int(found) if found == int(found) else found
    (folder / CONFIG).write_text(json.dumps(config, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    what = f"rebuilt from {len(adapter.lora) + len(adapter.full)} tensors; lora_alpha {found:g} by {source}"
    return Rebuilt((Change(CONFIG, "the whole file", "lost", what, "PEFT loads nothing without it"),), tuple(uncertain))


def _config(adapter: AdapterFacts, base: BaseFacts, ranks: Mapping[str, int]) -> dict[str, Any]:
    rank = Counter(ranks.values()).most_common(1)[0][0]
    saved = sorted(unlisted_modules(adapter, base))
    parts = parts_in(adapter.lora).values()
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base.name,
        "r": rank,
        "lora_alpha": None,
        "rank_pattern": {re.escape(name): one for name, one in ranks.items() if one != rank},
        "alpha_pattern": {},
        "target_modules": sorted(ranks),
        "modules_to_save": saved or None,
        "trainable_token_indices": None,
        "use_dora": any(one.kind == MAGNITUDES for one in parts),
        "lora_bias": any(one.is_bias and one.kind == LINEAR[1] for one in parts),
        "use_rslora": False,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "lora_dropout": 0.0,
        "inference_mode": True,
    }


def _ranks(adapter: AdapterFacts) -> dict[str, int]:
    """Read every module's rank off its first factor, `(rank, in)`; modules are called as the base calls them."""
    meant = adapter.attachment.meant
    found = {}
    for key, part in parts_in(adapter.lora).items():
        if part.kind in FIRST and len(shape := adapter.lora[key].shape) == 2:
            found[meant.get(part.module, part.module)] = part.rank_in(shape)
    return dict(sorted(found.items()))


def _alpha(adapter: AdapterFacts) -> float | None:
    value = adapter.documents.get(ARGUMENTS, {}).get("lora_alpha")
    return value if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None


def _rows(config: dict[str, Any], adapter: AdapterFacts) -> list[str]:
    """Name the trained rows that the file holds, if they are as many as the tokens that the tokenizer adds."""
    held = trained_rows(adapter)
    if not held:
        return []
    ids = sorted(adapter.new_tokens.values())
    if set(held.values()) != {len(ids)}:
        counts = ", ".join(f"{count} of {name}" for name, count in held.items())
        return [
            f"trainable_token_indices: the file holds trained rows ({counts}) and the tokenizer adds {len(ids)} "
            "token(s), so their ids are not known; fill them in, or the rows are dropped"
        ]
    config["trainable_token_indices"] = {name.rpartition(".")[2]: ids for name in sorted(held)}
    return ["trainable_token_indices: the ids of the new tokens in ascending order are taken"]


def _biases(config: dict[str, Any], adapter: AdapterFacts) -> list[str]:
    """Biases without their weights were trained beside the factors; which ones were asked for is told by where."""
    alone = [key for key in adapter.full if key.endswith(".bias") and f"{key[:-5]}.weight" not in adapter.full]
    if not alone:
        return []
    targets = set(config["target_modules"])
    config["bias"] = "lora_only" if all(key.removesuffix(".bias") in targets for key in alone) else "all"
    lost = {key.removesuffix(".bias").rpartition(".")[2] for key in alone} | {
        key.removesuffix(".bias") for key in alone
    }
    config["modules_to_save"] = [one for one in config["modules_to_save"] or () if one not in lost] or None
    return [f"bias: {config['bias']} is taken, as the file holds {len(alone)} biases without their weights"]
