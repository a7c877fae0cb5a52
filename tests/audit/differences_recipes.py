"""Harmless recipes beside an adapter, and bases that hold something of it, as functions that edit the demo's copies.

Does not judge; `test_harmless.py` does.
"""

import shutil

import torch

from service.demo import demo_root
from tests.audit.differences_registry import harmless
from tests.builders import (
    Folders,
    edited_json,
    edited_tensors,
    keep_rank,
    make_dora,
    updates_of,
    write_json,
    write_update,
)

CONFIG = "adapter_config.json"
CARD = """\
---
library_name: peft
---
How the base is tuned:

```yaml
finetuning_type: lora
lora_rank: 64
lora_alpha: 8
```

<details><summary>See axolotl config</summary>

```yaml
adapter: lora
lora_r: 8
lora_alpha: 16
lora_target_linear: true
peft_use_rslora: false
```

</details>
"""


@harmless()
def arguments_of_the_training(folders: Folders) -> None:
    write_json(
        folders.adapter / "args.json",
        {
            "train_type": "lora",
            "adapters": [],
            "lora_rank": 8,
            "lora_alpha": 16,
            "use_rslora": False,
            "use_dora": False,
            "init_weights": "true",
            "target_modules": ["all-linear"],
            "modules_to_save": [],
            "resume_from_checkpoint": None,
        },
    )


@harmless()
def arguments_of_another_kind_of_training(folders: Folders) -> None:
    write_json(folders.adapter / "args.json", {"train_type": "full", "lora_rank": 8, "lora_alpha": 32})


@harmless()
def arguments_of_a_run_that_went_on_with_an_adapter(folders: Folders) -> None:
    write_json(
        folders.adapter / "args.json", {"train_type": "lora", "adapters": ["a"], "lora_rank": 8, "lora_alpha": 32}
    )


@harmless()
def arguments_of_the_same_scale(folders: Folders) -> None:
    write_json(folders.adapter / "args.json", {"lora_rank": 8, "lora_alpha": 16, "use_rslora": False})
    with edited_json(folders.adapter / CONFIG) as config:
        config |= {"use_rslora": True, "lora_alpha": 16 / 8**0.5}


@harmless()
def arguments_of_factors_that_were_converted(folders: Folders) -> None:
    """PEFT converts PiSSA's factors into plain ones of twice the rank."""
    recipe = "finetuning_type: lora\npissa_init: true\nlora_rank: 4\nlora_alpha: 4\nlora_target: all\n"
    (folders.adapter / "training_args.yaml").write_text(recipe, encoding="utf-8")


@harmless()
def arguments_of_two_stages(folders: Folders) -> None:
    for stage, alpha in (("first", 32), ("second", 16)):
        recipe = f"finetuning_type: lora\nlora_rank: 8\nlora_alpha: {alpha}\nlora_target: q_proj,v_proj\n"
        (folders.adapter / f"{stage}.yaml").write_text(recipe, encoding="utf-8")


@harmless()
def arguments_of_an_adapter_that_kept_its_own_settings(folders: Folders) -> None:
    """LLaMA-Factory goes on with an adapter as it is, whatever the new arguments ask to be saved whole."""
    recipe = "finetuning_type: lora\nadapter_name_or_path: saves/first\nadditional_target: embed_tokens,lm_head\n"
    (folders.adapter / "second.yaml").write_text(recipe, encoding="utf-8")


@harmless()
def arguments_of_two_stages_that_saved_different_modules(folders: Folders) -> None:
    for stage, saved in (("first", "embed_tokens"), ("second", "lm_head")):
        (folders.adapter / f"{stage}.yaml").write_text(f"lora_rank: 8\nadditional_target: {saved}\n", encoding="utf-8")


@harmless()
def arguments_that_save_what_the_base_lacks(folders: Folders) -> None:
    write_json(folders.adapter / "args.json", {"train_type": "lora", "lora_rank": 8, "modules_to_save": ["resampler"]})


@harmless()
def arguments_in_the_model_card(folders: Folders) -> None:
    (folders.adapter / "README.md").write_text(CARD, encoding="utf-8")


@harmless()
def arguments_that_target_what_the_base_lacks(folders: Folders) -> None:
    """`fc1` is in the vision tower only, which the config leaves out."""
    write_json(folders.adapter / "args.json", {"target_modules": ["q_proj", "fc1", "wqkv"], "lora_rank": 8})


@harmless("tokens")
def arguments_that_save_what_was_trained_row_by_row(folders: Folders) -> None:
    write_json(folders.adapter / "args.json", {"modules_to_save": ["embed_tokens", "lm_head", "resampler"]})
    with edited_json(folders.adapter / CONFIG) as config:
        config["modules_to_save"] = ["classifier"]


@harmless("tokens")
def on_the_merge_of_another_adapter(folders: Folders) -> None:
    shutil.copyfile(demo_root() / "merged/model.safetensors", folders.base_weights)
    sources = {"adapter": {"name": "json", "fingerprint": "0123456789abcdef"}}
    write_json(folders.base / "merge.json", {"from": sources, "versions": {}})


@harmless("official")
def dora_of_stretched_directions(folders: Folders) -> None:
    """The directions hold the weight once more, which the magnitudes undo."""
    make_dora(folders, lambda weight, update: 2 * (weight + update))


@harmless()
def an_update_that_took_away_from_the_weight(folders: Folders) -> None:
    """The weights lack what the factors add, as where LoRA-GA took its first values out of them."""
    write_update(folders, times=-1.0)


@harmless()
def factors_of_rank_one(folders: Folders) -> None:
    keep_rank(folders, 1)


@harmless("official")
def factors_of_the_full_rank(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        for key in [one for one in tensors if ".lora_A." in one]:
            other = key.replace("lora_A", "lora_B")
            generator = torch.Generator().manual_seed(0)
            more = torch.randn(64, tensors[key].shape[1], generator=generator) / tensors[key].shape[1] ** 0.5
            tensors[key] = torch.cat([tensors[key], more.to(tensors[key].dtype)])
            tensors[other] = torch.cat([tensors[other], tensors[other][:, :64] * 0.1], dim=1)
    with edited_json(folders.adapter / CONFIG) as config:
        config |= {"r": 128, "lora_alpha": 128}


@harmless("official")
def some_directions_lean_towards_the_weight(folders: Folders) -> None:
    """Training made some modules surer of what they say: their updates hold more of the weight than of anything new."""
    updates = updates_of(folders)
    module = next(iter(updates))
    with edited_tensors(folders.adapter_weights) as tensors:
        first = tensors[f"base_model.model.{module}.lora_A.weight"].float()
        leaning = 0.5 * updates[module][0] @ torch.linalg.pinv(first)
        tensors[f"base_model.model.{module}.lora_B.weight"] = leaning


@harmless("official")
def first_factors_that_modules_share(folders: Folders) -> None:
    """As where queries, keys and values were one matrix when they were trained."""
    with edited_tensors(folders.adapter_weights) as tensors:
        for key in [one for one in tensors if ".k_proj.lora_A." in one]:
            query, value = key.replace("k_proj", "q_proj"), key.replace("k_proj", "v_proj")
            tensors[key], tensors[value] = tensors[query].clone(), tensors[query].clone()
