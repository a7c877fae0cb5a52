"""Tiny folders of MiniCPM-V 2.6, 4.0 and 4.5 in the official layout, with an adapter of the official script, and the
lists in which ways of failing and differences that change nothing register themselves.

Knows none of them; they are in `older_bases.py`, `older_adapters.py` and `older_sound.py`.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tests.builders import PREFIX, Folders, edited_json, edited_tensors, token_id, write_json

Make = Callable[[Folders], None]
VERSIONS = ("2.6", "4.0", "4.5")
SAVED = ("embed_tokens", "resampler", "vpm")
ROWS, TOWER_TABLE = "llm.model.embed_tokens.weight", "vpm.embeddings.position_embedding.weight"
TEMPLATE_4_5 = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}"
    "{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{% endif %}"
)
LOOSE = "vpm_resampler_embedtokens.pt"


@dataclass(frozen=True)
class Case:
    """What must be found, and of whom: `base` or `adapter`."""

    make: Make
    check: str
    named: str
    version: str
    subject: str
    severity: str


BROKEN: dict[str, Case] = {}
SOUND: dict[str, tuple[str, Make]] = {}


def broken(
    check: str, named: str, version: str = "2.6", subject: str = "base", severity: str = "fatal"
) -> Callable[[Make], Make]:
    def register(make: Make) -> Make:
        BROKEN[make.__name__] = Case(make, check, named, version, subject, severity)
        return make

    return register


def sound(version: str = "2.6") -> Callable[[Make], Make]:
    def register(make: Make) -> Make:
        SOUND[make.__name__] = (version, make)
        return make

    return register


def official(version: str, to: Path) -> Folders:
    """Write a tiny base, and an adapter as `finetune_lora.sh` leaves it."""
    from tests.engine import tiny

    return Folders(tiny.make(f"minicpm-v-{version}", to / "base"), official_adapter(to / "base", to / "adapter"))


def official_adapter(base: Path, folder: Path) -> Path:
    folder.mkdir()
    generator = torch.Generator().manual_seed(1)
    tensors: dict[str, torch.Tensor] = {}
    for name, one in load_file(base / "model.safetensors").items():
        module = PREFIX + name.removesuffix(".weight")
        if name.startswith("llm.") and ".self_attn." in name and name.endswith("_proj.weight"):
            tensors[f"{module}.lora_A.weight"] = torch.randn(4, one.shape[1], generator=generator) * 0.05
            tensors[f"{module}.lora_B.weight"] = torch.randn(one.shape[0], 4, generator=generator) * 0.02
        if any(f".{saved}." in f".{name}" for saved in SAVED):
            tensors[PREFIX + name] = one + 0.02 * torch.randn(one.shape, generator=generator) * (one.dim() > 1)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config: dict[str, Any] = {"peft_type": "LORA", "r": 4, "lora_alpha": 4, "lora_dropout": 0.05, "bias": "none"}
    config |= {"target_modules": r"llm\..*layers\.\d+\.self_attn\.(q_proj|k_proj|v_proj|o_proj)"}
    config |= {"modules_to_save": list(SAVED), "base_model_name_or_path": "/data/base", "task_type": None}
    remote = {"base_model_class": "MiniCPMV", "parent_library": "transformers_modules.v.modeling_minicpmv"}
    write_json(folder / "adapter_config.json", config | {"auto_mapping": remote})
    return folder


def copied(sources: Folders, to: Path) -> Folders:
    shutil.copytree(sources.base, to / "base")
    shutil.copytree(sources.adapter, to / "adapter")
    return Folders(to / "base", to / "adapter")


def config(folders: Folders) -> Any:
    return edited_json(folders.base / "config.json")


def tokenizer_config(folders: Folders) -> Any:
    return edited_json(folders.base / "tokenizer_config.json")


def settings(folders: Folders) -> Any:
    return edited_json(folders.base / "preprocessor_config.json")


def flag(folders: Folders, text: str, **flags: bool) -> None:
    with edited_json(folders.base / "tokenizer.json") as document:
        next(one for one in document["added_tokens"] if one["content"] == text).update(flags)


def surround(folders: Folders, text: str, *, behind: bool) -> None:
    """Let the tokenizer put a token before or behind every text."""
    number = token_id(folders.base, text)
    special, whole = {"SpecialToken": {"id": text, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    single = [whole, special] if behind else [special, whole]
    with edited_json(folders.base / "tokenizer.json") as document:
        document["post_processor"] = {
            "type": "TemplateProcessing",
            "single": single,
            "pair": [*single, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {text: {"id": text, "ids": [number], "tokens": [text]}},
        }


def saved(folders: Folders, change: Callable[[torch.Tensor], torch.Tensor], *modules: str) -> None:
    """Replace what the adapter saved of some modules."""
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if ".lora_" not in one and any(f".{part}." in one for part in modules)]:
            tensors[name] = change(tensors[name])


def dropped(folders: Folders, *modules: str) -> None:
    """Take saved modules out of the adapter's file and config."""
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if ".lora_" not in one and any(f".{part}." in one for part in modules)]:
            del tensors[name]
    with edited_json(folders.adapter / "adapter_config.json") as document:
        document["modules_to_save"] = [one for one in SAVED if one not in modules] or None


def noise(one: torch.Tensor) -> torch.Tensor:
    return torch.randn(one.shape, generator=torch.Generator().manual_seed(9)) * 0.1


def forget_thoughts(folders: Folders) -> None:
    """Rename the tokens of thoughts, which the demo's vocabulary has and those of 2.6 and 4.0 do not."""
    path = folders.base / "tokenizer.json"
    text = path.read_text(encoding="utf-8").replace('"<think>"', '"<|reserved_0|>"')
    path.write_text(text.replace('"</think>"', '"<|reserved_1|>"'), encoding="utf-8")


def named(folders: Folders, base: str) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as document:
        document["base_model_name_or_path"] = base
