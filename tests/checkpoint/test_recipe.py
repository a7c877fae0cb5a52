"""What trainers write beside an adapter is read by any of their names, and nothing in it stops the reading."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from service.checkpoint.recipe import recipes

CARD = """\
```yaml
lora_r: 3
```
<details><summary>See axolotl config</summary>

axolotl version: `0.7.0`
```yaml
adapter: qlora  # four bits
lora_r: 8
lora_alpha: "32"
lora_target_modules: ["q_proj", 'v_proj']
peft_use_rslora: true
datasets:
  - path: /x
lora_modules_to_save:
- embed_tokens
- lm_head
adapter_path:
```
"""


def written(folder: Path, name: str, content: Any) -> Path:
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_the_card_of_axolotl_is_read_and_other_blocks_of_it_are_not(tmp_path: Path) -> None:
    (found,) = recipes(written(tmp_path, "README.md", CARD))
    assert found.values == {
        "r": 8,
        "lora_alpha": 32,
        "use_rslora": True,
        "target_modules": ("q_proj", "v_proj"),
        "modules_to_save": ("embed_tokens", "lm_head"),
    }
    assert found.names["use_rslora"] == "peft_use_rslora"
    assert not found.is_continued


@pytest.mark.parametrize("targets", ["all", "ALL", ["all-linear"], ["AUTO"], r".*(q|v)_proj", [], None, 3, [["q"]]])
def test_targets_that_name_no_module_are_left_open(targets: Any, tmp_path: Path) -> None:
    (found,) = recipes(written(tmp_path, "args.json", {"lora_rank": 8, "target_modules": targets}))
    assert found.values == {"r": 8}


@pytest.mark.parametrize("value", [True, "many", -1, 0, None, [8], 10**400, "1e999", "nan"])
def test_numbers_that_are_none_are_left_open(value: Any, tmp_path: Path) -> None:
    assert recipes(written(tmp_path, "args.json", {"lora_rank": value})) == ()


@pytest.mark.parametrize("kind", ["full", "adalora", "freeze"])
def test_arguments_of_another_kind_of_training_are_no_recipe(kind: str, tmp_path: Path) -> None:
    assert recipes(written(tmp_path, "args.json", {"train_type": kind, "lora_rank": 8})) == ()


def test_a_run_that_began_with_an_adapter_is_known_as_such(tmp_path: Path) -> None:
    written(tmp_path, "args.json", {"lora_rank": 8, "adapters": ["first"]})
    written(tmp_path, "train.yaml", "lora_rank: 8\nresume_from_checkpoint: false\nadapter_name_or_path: null\n")
    assert [one.is_continued for one in recipes(tmp_path)] == [True, False]


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "lora_rank: " + " " * 150_000 + "8",
        "See axolotl config</summary>" * 5_000,
        "See axolotl config</summary>\n" + "```yaml\n" * 20_000,
        "- x\n" * 40_000,
        "a: [" + "[," * 60_000 + "]",
        "a: " + "[" * 450 + "]" * 450,
        "a:\n" + "- x\n" * 40_000,
        "\udcff".encode("utf-8", "surrogatepass").decode("latin-1"),
    ],
)
@pytest.mark.parametrize("name", ["args.json", "train.yaml", "README.md"])
def test_hostile_text_is_read_at_once_and_is_no_recipe(name: str, text: str, tmp_path: Path) -> None:
    started = time.perf_counter()
    assert recipes(written(tmp_path, name, text)) == ()
    assert time.perf_counter() - started < 1
