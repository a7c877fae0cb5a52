"""The demo in the layout of MiniCPM-V 4.5: names, ids and settings are those of the official files, scaled down."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from service.audit.judging import audit
from service.checkpoint.locating import locate
from service.checkpoint.reading import read_checkpoint
from service.demo import demo_bases, demo_root
from service.demo.dialogues import dialogue_about
from service.demo.drawing import Scene, draw
from service.domain.generation import Message, PictureRef
from service.domain.judgement import Severity, Verdict
from service.engine.families.family import LoadOptions
from service.engine.families.registry import find_family

Loaded = Callable[[str], tuple[Any, Any]]
BASE = demo_bases()["demo-4.5"]
OFFICIAL = demo_root() / "minicpmv4_5" / "adapters" / "official"
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")
OPTIONS = LoadOptions(torch.device("cpu"), torch.float32, None, is_code_trusted=False)


def document(folder: Path, name: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
    return read


def tensor_names(path: Path) -> set[str]:
    with safe_open(path, framework="pt") as tensors:
        return set(tensors.keys())


def test_it_loads_without_a_warning_from_its_own_files_alone(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    config = document(BASE, "config.json")
    assert not list(BASE.glob("*.py"))
    with caplog.at_level(logging.WARNING):
        model, info = find_family(config, is_code_trusted=False).load_model(BASE, OPTIONS)
    assert [record.getMessage() for record in caplog.records] == []
    assert not any(info[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert 1_000_000 < sum(parameter.numel() for parameter in model.parameters()) < 3_000_000


def test_the_configuration_is_flat_and_names_the_official_code() -> None:
    config = document(BASE, "config.json")
    assert (config["version"], config["model_type"], config["architectures"]) == (4.5, "minicpmv", ["MiniCPMV"])
    assert config["auto_map"]["AutoModel"] == "modeling_minicpmv.MiniCPMV"
    assert config["head_dim"] * config["num_attention_heads"] != config["hidden_size"]  # so it must be read
    assert config["drop_vision_last_layer"] is False
    assert "text_config" not in config


def test_every_tensor_has_the_official_name() -> None:
    names = tensor_names(BASE / "model.safetensors")
    layers = document(BASE, "config.json")["num_hidden_layers"]
    assert {name.split(".")[0] for name in names} == {"llm", "vpm", "resampler"}
    assert {f"llm.model.layers.{layers - 1}.self_attn.{norm}.weight" for norm in ("q_norm", "k_norm")} <= names
    assert {"resampler.query", "resampler.proj", "resampler.attn.in_proj_weight", "llm.lm_head.weight"} <= names
    assert {"vpm.embeddings.position_embedding.weight", "vpm.post_layernorm.bias"} <= names


def test_the_weights_are_stored_in_bfloat16() -> None:
    for path in (BASE / "model.safetensors", OFFICIAL / "adapter_model.safetensors"):
        with safe_open(path, framework="pt") as tensors:
            assert {tensors.get_slice(name).get_dtype() for name in tensors.keys()} == {"BF16"}  # noqa: SIM118


def test_the_tokens_stand_in_the_official_order(loaded: Loaded) -> None:
    model, encoding = loaded("4.5")
    tokenizer = encoding.tokenizer
    ordered = ("<unk>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<image>", "</image>")
    ids = tokenizer.convert_tokens_to_ids([*ordered, "<slice>", "</slice>", "<image_id>", "<|reserved_0|>"])
    assert ids == sorted(ids)
    assert "<unk>" in document(BASE, "vocab.json")  # a slot of the base vocabulary, not behind it
    assert "<|endoftext|>" not in document(BASE, "vocab.json")
    assert tokenizer.convert_tokens_to_ids("!") == 0
    assert len(tokenizer) == model.config.vocab_size


@pytest.mark.parametrize("folder", [BASE, OFFICIAL])
def test_the_tokenizer_names_the_official_class_and_brings_its_template(folder: Path) -> None:
    config = document(folder, "tokenizer_config.json")
    assert config["tokenizer_class"] == "MiniCPMVTokenizerFast"
    assert config["auto_map"]["AutoTokenizer"][0] == "tokenization_minicpmv_fast.MiniCPMVTokenizerFast"
    assert "enable_thinking" in config["chat_template"]
    decoder = {one["content"]: int(number) for number, one in config["added_tokens_decoder"].items()}
    assert decoder == document(folder, "added_tokens.json")


@pytest.mark.parametrize(
    ("switch", "end"),
    [
        ({}, "<|im_start|>assistant\n"),
        ({"enable_thinking": False}, "<|im_start|>assistant\n<think>\n\n</think>\n\n"),
        ({"enable_thinking": True}, "<|im_start|>assistant\n<think>\n"),
    ],
)
def test_the_template_leaves_thinking_open_shut_or_unsaid(switch: dict[str, bool], end: str, loaded: Loaded) -> None:
    _, encoding = loaded("4.5")
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "<think>\nwell\n</think>\n\nHello"}]
    turns.append({"role": "user", "content": "What?"})
    text = encoding.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, **switch)
    assert text.endswith("What?<|im_end|>\n" + end)
    assert "well" not in text


def test_training_writes_the_prompt_that_the_service_writes(loaded: Loaded) -> None:
    model, encoding = loaded("4.5")
    scene = Scene("red", "star", 2, "center")
    dialogue = dialogue_about(scene, "color", "zh")
    asked = dialogue.messages[0]["content"][1]["text"]
    picture = draw(scene, (300, 200))
    family = find_family(document(BASE, "config.json"), is_code_trusted=False)
    encoder = family.load_encoder(BASE, frozenset(), OPTIONS, model)
    encoded = encoder.encode([Message("user", (PictureRef(0), asked))], [picture])
    own = encoding.inputs(dialogue, [picture])
    assert encoded.tensors.keys() == own.keys()
    assert all(torch.equal(encoded.tensors[name], own[name]) for name in own)


def test_the_audit_finds_both_folders_consistent() -> None:
    report = audit(read_checkpoint(locate(str(BASE)), {"official": locate(str(OFFICIAL))}))
    assert report.overall is Verdict.CONSISTENT
    assert {one.severity for one in report.findings()} <= {Severity.NOTE}


def test_the_adapter_has_the_layout_of_the_fine_tuning_script() -> None:
    config = document(OFFICIAL, "adapter_config.json")
    assert config["target_modules"].startswith(r"llm\..*layers\.")
    assert (config["r"], config["lora_alpha"], config["task_type"]) == (64, 64, None)
    assert config["modules_to_save"] == ["embed_tokens", "resampler", "vpm"]
    assert config["auto_mapping"]["base_model_class"] == "MiniCPMV"
    assert config["auto_mapping"]["parent_library"].startswith("transformers_modules.")
    assert config["base_model_name_or_path"] == "minicpm-demo-4.5"
    names = tensor_names(OFFICIAL / "adapter_model.safetensors")
    layer = "base_model.model.llm.model.layers.0.self_attn"
    assert {f"{layer}.{one}.lora_A.weight" for one in PROJECTIONS} <= names
    assert {"base_model.model.llm.model.embed_tokens.weight", "base_model.model.resampler.query"} <= names
    assert "base_model.model.vpm.post_layernorm.weight" in names
    assert not [name for name in names if "lm_head" in name or (".vpm." in name and "lora" in name)]
