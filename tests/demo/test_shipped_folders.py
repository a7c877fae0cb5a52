"""The shipped folders: they load as real checkpoints do, and hold the facts that the audit reads."""

import json
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

from service.demo import demo_root, write_demo
from service.demo.minicpmv4_6.building import NAMED_TOKENS
from service.demo.phrasing import MARKUP_TOKENS

Loaded = Callable[[str], tuple[Any, Any]]
ADAPTERS = ("json", "tokens", "official", "broken")


def adapter_tensors(name: str) -> dict[str, torch.Tensor]:
    path = demo_root() / "adapters" / name / "adapter_model.safetensors"
    with safe_open(path, framework="pt") as tensors:
        return {key: tensors.get_tensor(key) for key in tensors.keys()}  # noqa: SIM118 (not a mapping)


def adapter_config(name: str) -> dict[str, Any]:
    path = demo_root() / "adapters" / name / "adapter_config.json"
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return config


@pytest.mark.parametrize("checkpoint", ["base", "merged"])
def test_a_checkpoint_loads_without_a_warning(
    checkpoint: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    folder = demo_root() / checkpoint
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        AutoProcessor.from_pretrained(folder)
        AutoTokenizer.from_pretrained(folder)
        model = AutoModelForImageTextToText.from_pretrained(folder, dtype="auto")
    assert [record.getMessage() for record in caplog.records] == []
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_the_base_is_small_and_has_the_head_sizes_that_vllm_accepts(loaded: Loaded) -> None:
    model, _ = loaded("base")
    text = model.config.text_config
    assert sum(parameter.numel() for parameter in model.parameters()) <= 3_000_000
    assert {text.head_dim, text.linear_key_head_dim, text.linear_value_head_dim} == {64}
    assert text.layer_types == ["linear_attention"] * 3 + ["full_attention"]


def test_the_base_has_more_rows_than_tokens_and_two_separate_matrices(loaded: Loaded) -> None:
    model, encoding = loaded("base")
    rows = model.get_input_embeddings().weight
    head = model.get_output_embeddings().weight
    assert rows.shape == head.shape == (model.config.text_config.vocab_size, 128)
    assert rows.shape[0] >= len(encoding.tokenizer) + 16
    assert rows.shape[0] % 64 == 0
    assert not torch.equal(rows, head)


@pytest.mark.parametrize("folder", ["base", "merged", "adapters/tokens", "adapters/official", "adapters/broken"])
def test_every_tokenizer_names_the_special_tokens_of_the_processor(folder: str) -> None:
    config = json.loads((demo_root() / folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert config["extra_special_tokens"] == NAMED_TOKENS
    tokenizer = AutoTokenizer.from_pretrained(demo_root() / folder)
    assert all(getattr(tokenizer, name) == token for name, token in NAMED_TOKENS.items())


def test_generation_stops_at_both_ends(loaded: Loaded) -> None:
    model, encoding = loaded("base")
    ends = encoding.tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"])
    assert model.generation_config.eos_token_id == ends
    assert model.generation_config.pad_token_id == ends[0]


@pytest.mark.parametrize("name", ADAPTERS)
def test_no_adapter_names_the_machine_it_was_made_on(name: str) -> None:
    assert adapter_config(name)["base_model_name_or_path"] == "minicpm-demo"


@pytest.mark.parametrize("name", ["tokens", "broken"])
def test_the_added_tokens_are_special_and_land_in_spare_rows(name: str, loaded: Loaded) -> None:
    model, base_encoding = loaded("base")
    tokenizer = AutoTokenizer.from_pretrained(demo_root() / "adapters" / name)
    first = len(base_encoding.tokenizer)
    ids = tokenizer.convert_tokens_to_ids(list(MARKUP_TOKENS))
    assert ids == list(range(first, first + len(MARKUP_TOKENS)))
    assert ids[-1] < model.config.text_config.vocab_size
    assert tokenizer.decode(ids, skip_special_tokens=True) == ""


def test_tokens_ships_the_rows_that_broken_lacks() -> None:
    rows = {key for key in adapter_tensors("tokens") if key.endswith(("token_adapter.trainable_tokens_delta",))}
    assert len(rows) == 2  # one for each matrix
    assert all(adapter_tensors("tokens")[key].shape == (len(MARKUP_TOKENS), 128) for key in rows)
    assert adapter_config("broken")["trainable_token_indices"] is None
    assert adapter_config("broken")["modules_to_save"] is None
    assert all("lora_" in key for key in adapter_tensors("broken"))


@pytest.mark.parametrize("name", ADAPTERS)
def test_every_adapter_was_really_trained(name: str) -> None:
    factors = [tensor for key, tensor in adapter_tensors(name).items() if "lora_B" in key]
    assert factors
    assert all(tensor.abs().max() > 0 for tensor in factors)


def test_official_has_the_layout_of_the_fine_tuning_script() -> None:
    config = adapter_config("official")
    assert isinstance(config["target_modules"], str)
    assert (config["r"], config["lora_alpha"], config["task_type"]) == (64, 64, None)
    assert config["modules_to_save"] == ["embed_tokens", "merger"]
    assert config["auto_mapping"]["base_model_class"] == "MiniCPMV4_6ForConditionalGeneration"
    assert not (demo_root() / "adapters" / "official" / "processor_config.json").exists()


def test_writing_the_demo_copies_every_folder(tmp_path: Path) -> None:
    write_demo(tmp_path / "demo")
    shipped, written = (
        sorted(path.relative_to(root) for path in root.rglob("*")) for root in (demo_root(), tmp_path / "demo")
    )
    assert written == shipped


def test_writing_the_demo_refuses_a_folder_that_is_in_use(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(FileExistsError, match="not an empty folder"):
        write_demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
