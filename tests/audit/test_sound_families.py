"""Checkpoints of every family, as the libraries write them and in their harmless variants, are consistent."""

import importlib.util
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from service.audit.check import BaseView
from service.audit.checks.language_settings import settings_are_official
from service.audit.judging import audit
from service.checkpoint.locating import locate
from service.checkpoint.reading import read_checkpoint
from service.demo import demo_root
from service.domain.judgement import Finding, Severity
from tests.builders import edited_json, edited_tensors, read_json, write_json

LOUD = (Severity.FATAL, Severity.WARNING)
FOLDERS = (
    *("served_model", "weights_complete", "model_config", "picture_settings", "minicpmv", "tied_embeddings"),
    "config_rows",
)
TINY = Path(__file__).parents[1] / "engine" / "tiny.py"


def tiny() -> Any:
    """The engine's makers of tiny checkpoints; tests/engine is no package."""
    spec = importlib.util.spec_from_file_location("tiny_checkpoints", TINY)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def findings(folder: Path) -> list[Finding]:
    report = audit(read_checkpoint(locate(str(folder)), {}))
    return [one for one in report.findings() if one.severity in LOUD]


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    maker = tiny()
    root = tmp_path_factory.mktemp("families")
    return {name: maker.make(name, root / str(place)) for place, name in enumerate(maker.FAMILIES)}


@pytest.mark.parametrize("name", list(tiny().FAMILIES))
def test_a_family_as_its_library_writes_it_is_consistent(name: str, families: dict[str, Path]) -> None:
    assert [(one.check, one.message) for one in findings(families[name]) if one.check in FOLDERS] == []


@pytest.mark.parametrize(
    ("name", "is_filled"),
    [("minicpm-v-4.7", True), ("minicpm-ocr", True), ("got-ocr-2", False), ("image-text", False), ("4.5", False)],
)
def test_prompts_are_filled_up_only_where_a_processor_pads(
    name: str, is_filled: bool, families: dict[str, Path], tmp_path: Path
) -> None:
    folder = next(path for family, path in families.items() if name in family)
    shutil.copytree(folder, tmp_path / "x")
    how = {"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": 8}
    with edited_json(tmp_path / "x" / "tokenizer.json") as document:
        document["padding"] = {**how, "pad_id": 0, "pad_type_id": 0, "pad_token": "<|endoftext|>"}
    assert any("pad_to_multiple_of" in one.message for one in findings(tmp_path / "x")) is is_filled


@pytest.mark.parametrize("name", list(tiny().FAMILIES))
def test_a_family_that_lost_a_tensor_is_not(name: str, families: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(families[name], tmp_path / "x")
    with edited_tensors(tmp_path / "x" / "model.safetensors") as tensors:
        lost = next(one for one in sorted(tensors) if one.endswith("o_proj.weight"))
        del tensors[lost]
    assert {one.check for one in findings(tmp_path / "x")} & set(FOLDERS) == {"weights_complete"}


def llama_with(families: dict[str, Path], to: Path, **settings: Any) -> Path:
    shutil.copytree(families["causal (llama)"], to)
    with edited_json(to / "config.json") as config:
        config.update(settings)
    return to


def test_a_list_of_special_tokens_is_enough_where_no_processor_needs_names(
    families: dict[str, Path], tmp_path: Path
) -> None:
    folder = llama_with(families, tmp_path / "x")
    with edited_json(folder / "tokenizer_config.json") as config:
        config["extra_special_tokens"] = sorted((config.get("extra_special_tokens") or {}).values())
    assert findings(folder) == []


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"architectures": ["LlamaModel"]}, "LlamaModel"),
        ({"architectures": ["Qwen3ForCausalLM"]}, "Qwen3ForCausalLM"),
        ({"rope_theta": 7.0}, "rope_theta"),
        ({"rope_parameters": None}, "lost its rope_parameters"),
        ({"num_key_value_heads": 0}, "num_key_value_heads"),
        ({"hidden_act": "nothing"}, "nothing"),
        ({"rope_parameters": {"rope_type": "spiral", "rope_theta": 1e4}}, "spiral"),
    ],
)
def test_a_broken_config_of_a_text_model_is_found(
    settings: dict[str, Any], named: str, families: dict[str, Path], tmp_path: Path
) -> None:
    found = findings(llama_with(families, tmp_path / "x", **settings))
    assert {one.check for one in found} == {"model_config"}
    assert any(named in one.message for one in found)


def test_texts_that_end_with_a_token_are_noted_where_chat_prompts_do_not_go_through_it(
    families: dict[str, Path], tmp_path: Path
) -> None:
    folder = llama_with(families, tmp_path / "x")
    document = read_json(folder / "tokenizer.json")
    end = next(one for one in document["added_tokens"] if one["content"] == "<|im_end|>")
    document["post_processor"]["single"].append({"SpecialToken": {"id": "<|im_end|>", "type_id": 0}})
    entry = {"id": "<|im_end|>", "ids": [end["id"]], "tokens": ["<|im_end|>"]}
    document["post_processor"]["special_tokens"] = {"<|im_end|>": entry}
    write_json(folder / "tokenizer.json", document)
    assert findings(folder) == []
    noted = audit(read_checkpoint(locate(str(folder)), {})).findings()
    assert [one.severity for one in noted if "behind every text" in one.message] == [Severity.NOTE]


def test_tokens_of_turns_that_another_family_gave_flags_are_a_warning(
    families: dict[str, Path], tmp_path: Path
) -> None:
    folder = llama_with(families, tmp_path / "x")
    with edited_json(folder / "tokenizer.json") as document:
        next(one for one in document["added_tokens"] if one["content"] == "<|im_end|>")["rstrip"] = True
    assert [(one.check, one.severity) for one in findings(folder)] == [("token_flags", Severity.WARNING)]


def test_a_minicpm3_of_the_official_size_has_the_official_scales(families: dict[str, Path]) -> None:
    facts = read_checkpoint(locate(str(families["causal"])), {}).base
    for changed, number in (({}, 0), ({"scale_emb": 1}, 1), ({"dim_model_base": 2560}, 1)):
        scales = {"scale_emb": 12, "scale_depth": 1.4, "dim_model_base": 256, **changed}
        config = facts.documents["config.json"] | {"hidden_size": 2560, "num_hidden_layers": 62} | scales
        base = replace(facts, documents={**facts.documents, "config.json": config})
        assert len(list(settings_are_official(BaseView(base, None)))) == number


@pytest.mark.parametrize(
    ("window", "severity"), [(8, Severity.FATAL), (128, Severity.WARNING), (2048, None), (None, None)]
)
def test_a_window_that_no_model_of_qwen_has_is_fatal_only_if_it_is_tiny(
    window: int | None, severity: Severity | None, families: dict[str, Path]
) -> None:
    facts = read_checkpoint(locate(str(families["causal (llama)"])), {}).base
    sliding = {"use_sliding_window": True, "sliding_window": window, "max_window_layers": 0}
    config = facts.documents["config.json"] | sliding | {"max_position_embeddings": 2048}
    base = replace(facts, model_type="qwen3", documents={**facts.documents, "config.json": config})
    found = [one.severity for one in settings_are_official(BaseView(base, None))]
    assert found == ([severity] if severity else [])


def test_biases_of_a_kind_that_config_json_no_longer_names_are_found(families: dict[str, Path], tmp_path: Path) -> None:
    folder = llama_with(families, tmp_path / "x")
    with edited_tensors(folder / "model.safetensors") as tensors:
        for name in [one for one in tensors if one.endswith("q_proj.weight")]:
            tensors[name.replace(".weight", ".bias")] = torch.ones(len(tensors[name]))
    (found,) = findings(folder)
    assert (found.check, "q_proj.bias" in found.message) == ("weights_complete", True)


def test_the_canvas_of_4_7_needs_its_five_markers(families: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(families["minicpm-v-4.7"], tmp_path / "x")
    with edited_json(tmp_path / "x" / "config.json") as config:
        del config["newline_id"]
    assert [(one.check, "newline_id" in one.message) for one in findings(tmp_path / "x")] == [("model_config", True)]


LANGUAGE = {
    "max_position_embeddings": 1024,
    "hidden_size": 128,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
TOWER = {"hidden_size": 32, "image_size": 28, "intermediate_size": 24, "num_attention_heads": 2, "num_hidden_layers": 2}


def flat_minicpmv(folder: Path, edit: Callable[[dict[str, Any]], None] = lambda config: None) -> Path:
    """A MiniCPM-V 4.5 as the official repositories lay it out, without a tokenizer."""
    folder.mkdir()
    config: dict[str, Any] = {
        **LANGUAGE,
        "model_type": "minicpmv",
        "architectures": ["MiniCPMV"],
        "version": 4.5,
        "vocab_size": 64,
        "head_dim": 16,
        "num_key_value_heads": 1,
        "query_num": 4,
        "rope_theta": 1e6,
        "drop_vision_last_layer": False,
        "tie_word_embeddings": False,
        "vision_config": {"model_type": "siglip", "patch_size": 14, **TOWER},
        "slice_config": {"max_slice_nums": 9, "patch_size": 14, "model_type": "minicpmv"},
    }
    norm = ("input_layernorm", "post_attention_layernorm")
    shapes: dict[str, tuple[int, ...]] = {"llm.lm_head.weight": (64, 128), "llm.model.embed_tokens.weight": (64, 128)}
    shapes |= {"llm.model.norm.weight": (128,), "resampler.query": (4, 128), "resampler.proj": (128, 128)}
    shapes |= {"resampler.kv_proj.weight": (128, 32), "resampler.attn.in_proj_weight": (384, 128)}
    shapes |= {"resampler.attn.in_proj_bias": (384,), "resampler.attn.out_proj.weight": (128, 128)}
    shapes |= {"resampler.attn.out_proj.bias": (128,), "vpm.embeddings.position_embedding.weight": (4, 32)}
    shapes |= {"vpm.embeddings.patch_embedding.weight": (32, 3, 14, 14), "vpm.embeddings.patch_embedding.bias": (32,)}
    for name in ("resampler.ln_q", "resampler.ln_kv", "resampler.ln_post", "vpm.post_layernorm"):
        shapes |= {f"{name}.{one}": (32 if name.startswith("vpm") else 128,) for one in ("weight", "bias")}
    for layer in (f"llm.model.layers.{number}" for number in range(2)):
        shapes |= {f"{layer}.{one}.weight": (128,) for one in norm}
        shapes |= {f"{layer}.mlp.{one}_proj.weight": (32, 128) for one in ("gate", "up")}
        shapes |= {f"{layer}.mlp.down_proj.weight": (128, 32), f"{layer}.self_attn.q_proj.weight": (32, 128)}
        shapes |= {f"{layer}.self_attn.{one}_proj.weight": (16, 128) for one in ("k", "v")}
        shapes |= {f"{layer}.self_attn.{one}_norm.weight": (16,) for one in ("q", "k")}
        shapes |= {f"{layer}.self_attn.o_proj.weight": (128, 32)}
    for layer in (f"vpm.encoder.layers.{number}" for number in range(2)):
        sizes = {f"self_attn.{one}_proj": (32, 32) for one in ("q", "k", "v", "out")}
        for name, (out, within) in {**sizes, "mlp.fc1": (24, 32), "mlp.fc2": (32, 24)}.items():
            shapes |= {f"{layer}.{name}.weight": (out, within), f"{layer}.{name}.bias": (out,)}
        shapes |= {f"{layer}.layer_norm{one}.{part}": (32,) for one in (1, 2) for part in ("weight", "bias")}
    edit(config)
    write_json(folder / "config.json", config)
    generator = torch.Generator().manual_seed(0)
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    picture = {"image_processor_type": "MiniCPMVImageProcessor", "processor_class": "MiniCPMVProcessor"}
    picture |= {"patch_size": 14, "image_feature_size": 4, "max_slice_nums": 9, "norm_mean": [0.5] * 3}
    write_json(folder / "preprocessor_config.json", picture | {"norm_std": [0.5] * 3, "version": 2.6})
    return folder


def of_folders(folder: Path) -> list[tuple[str, str]]:
    return [(one.check, one.message) for one in findings(folder) if one.check in FOLDERS]


def test_a_minicpm_v_without_code_of_its_own_is_consistent(tmp_path: Path) -> None:
    assert of_folders(flat_minicpmv(tmp_path / "x")) == []


@pytest.mark.parametrize(
    ("key", "value", "check", "named"),
    [
        ("version", None, "model_config", "no version"),
        ("version", 2.6, "model_config", "4.5"),
        ("query_num", 8, "weights_complete", "resampler.query"),
        ("num_hidden_layers", 1, "weights_complete", "llm.model.layers"),
        ("drop_vision_last_layer", None, "minicpmv", "drop_vision_last_layer"),
        ("drop_vision_last_layer", True, "weights_complete", "vpm.encoder.layers"),
        ("architectures", ["MiniCPMForCausalLM"], "model_config", "MiniCPMForCausalLM"),
        ("slice_config", {"max_slice_nums": 4}, "picture_settings", "max_slice_nums"),
    ],
)
def test_a_broken_config_of_minicpm_v_is_found(key: str, value: Any, check: str, named: str, tmp_path: Path) -> None:
    def edit(config: dict[str, Any]) -> None:
        config[key] = value
        if value is None:
            del config[key]

    found = of_folders(flat_minicpmv(tmp_path / "x", edit))
    assert check in {one for one, _ in found}
    assert any(named in message for one, message in found if one == check)


def test_code_that_a_minicpm_v_names_and_lacks_is_a_fact_and_no_finding(tmp_path: Path) -> None:
    code = {"AutoModel": "modeling_minicpmv.MiniCPMV"}
    folder = flat_minicpmv(tmp_path / "x", lambda config: config.update(auto_map=code))
    report = audit(read_checkpoint(locate(str(folder)), {}))
    assert not [one for one in report.findings() if "modeling_minicpmv.py" in one.message]
    facts = report.subjects["base"].facts["minicpmv"]
    assert facts["code_not_in_folder"] == ["modeling_minicpmv.py"]
    assert (facts["version"], facts["processor_version"]) == (4.5, 2.6)


def test_of_the_demo_s_sound_4_5_nothing_is_noted() -> None:
    assert audit(read_checkpoint(locate(str(demo_root() / "minicpmv4_5" / "base")), {})).findings() == []


@pytest.mark.parametrize(
    ("key", "value", "check"),
    [
        ("image_start_id", 700, "special_ids"),
        ("slice_end_id", 700, "special_ids"),
        ("newline_id", 5, "special_ids"),
        ("image_start_id", None, "model_config"),
    ],
)
def test_the_canvas_of_4_7_is_found_by_ids_that_must_be_the_tokenizer_s(
    key: str, value: int | None, check: str, families: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(families["minicpm-v-4.7"], tmp_path / "x")
    with edited_json(tmp_path / "x" / "config.json") as config:
        config[key] = value
        if value is None:
            del config[key]
    assert [one.check for one in findings(tmp_path / "x")] == [check]
