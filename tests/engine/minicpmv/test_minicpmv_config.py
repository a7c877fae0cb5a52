"""The official flat config.json is read, refused with the field's name, and written as it was."""

import copy
import json
from pathlib import Path
from typing import Any

import official
import pytest
import torch
from golden_vectors import GOLDEN, VERSIONS

from service.checkpoint.minicpmv import minicpmv_blueprint
from service.domain.facts import TensorFacts
from service.engine.families.minicpmv.configuration import MiniCPMVConfig
from service.engine.families.minicpmv.modeling import MiniCPMV
from service.errors import CheckpointUnsupported


def config_of(which: str, **changes: Any) -> dict[str, Any]:
    config = copy.deepcopy(official.CONFIGS[which]) | changes
    return {name: value for name, value in config.items() if value is not ...}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_official_config_builds_exactly_the_official_tensors(version: str) -> None:
    with torch.device("meta"):
        model = MiniCPMV(MiniCPMVConfig(**config_of(version)))
    shapes = {name: tuple(one.shape) for name, one in model.state_dict().items()}
    assert len(shapes) == official.COUNTS[version]
    assert (official.SHAPES[version] | official.SHAPES_OF_ALL).items() <= shapes.items()
    facts = {name: TensorFacts(shape, "BF16", "model.safetensors") for name, shape in shapes.items()}
    blueprint = minicpmv_blueprint(official.CONFIGS[version], facts)
    assert blueprint is not None
    assert (blueprint.missing, blueprint.unused, blueprint.misshapen) == ((), (), {})


@pytest.mark.parametrize("version", VERSIONS)
def test_a_config_is_written_as_it_was_read(version: str, tmp_path: Path) -> None:
    given = json.loads((GOLDEN / version / "checkpoint" / "config.json").read_text())
    config = MiniCPMVConfig.from_pretrained(GOLDEN / version / "checkpoint")
    config.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    derived = {"transformers_version", "sliding_window"}  # the window is off, which null says too
    assert {name: written.get(name) for name in given.keys() - derived} == {
        name: value for name, value in given.items() if name not in derived
    }
    assert "text_config" not in written
    again = MiniCPMVConfig.from_pretrained(tmp_path)
    assert again.to_dict() == config.to_dict()
    assert again.get_text_config().to_dict() == config.get_text_config().to_dict()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_config_that_transformers_5_saved_is_the_same(version: str) -> None:
    given = config_of(version, torch_dtype=..., dtype="bfloat16")
    given["vision_config"] = given["vision_config"] | {"model_type": "siglip_vision_model", "num_channels": 3}
    given["rope_parameters"] = {"rope_type": "default", **(given.pop("rope_scaling", None) or {})}
    given["rope_parameters"]["rope_theta"] = given.pop("rope_theta")
    assert MiniCPMVConfig(**given).to_dict() == MiniCPMVConfig(**config_of(version)).to_dict()


def test_each_version_has_its_language_model_and_rotary_numbers() -> None:
    texts = {version: MiniCPMVConfig(**config_of(version)).get_text_config() for version in VERSIONS}
    assert {version: text.model_type for version, text in texts.items()} == {
        "2.6": "qwen2",
        "4.0": "llama",
        "4.5": "qwen3",
    }
    assert texts["2.6"].rope_parameters == {"rope_theta": 1000000.0, "rope_type": "default"}
    assert texts["4.0"].rope_parameters["original_max_position_embeddings"] == 32786
    assert all(getattr(text, "sliding_window", None) is None for text in texts.values())
    assert texts["2.6"].dtype is torch.bfloat16


@pytest.mark.parametrize(
    ("version", "changes", "named"),
    [
        ("2.6", {"hidden_size": ...}, "hidden_size"),
        ("2.6", {"query_num": ...}, "query_num"),
        ("2.6", {"vision_config": ...}, "vision_config"),
        ("2.6", {"rope_theta": ...}, "rope_theta"),
        ("4.5", {"num_key_value_heads": None}, "num_key_value_heads"),
        ("4.0", {"vision_config": {"hidden_size": 1152}}, "vision_config.image_size"),
        ("4.0", {"vocab_size": ..., "max_position_embeddings": ...}, "vocab_size, max_position_embeddings"),
        ("4.0", {"hidden_size": 2500}, "hidden_size is 2500"),
        ("4.0", {"hidden_size": "2560"}, "hidden_size is '2560', not a whole number"),
        ("4.5", {"query_num": "64"}, "query_num is '64', not a whole number"),
        ("2.6", {"max_position_embeddings": 0}, "max_position_embeddings is 0, not a whole number of at least 1"),
        ("2.6", {"vision_config": []}, r"vision_config is \[\], not an object"),
        ("2.6", {"vision_config": {**official.VISION, "patch_size": True}}, r"vision_config\.patch_size is True"),
        ("2.6", {"vision_config": {**official.VISION, "image_size": [980, 980]}}, r"vision_config\.image_size"),
        ("4.5", {"drop_vision_last_layer": "false"}, "drop_vision_last_layer is 'false', not true or false"),
        ("4.5", {"version": 3.1}, "version is 3.1"),
        ("4.5", {"version": 4.46}, "version is 4.46"),
        ("4.5", {"version": 10**400}, "version is 1000"),
        ("4.5", {"version": "next"}, "version is 'next'"),
        ("4.5", {"version": ...}, "MiniCPM-V 2.5"),
        ("4.5", {"version": ..., "hidden_size": 2304}, "MiniCPM-V 2.0"),
    ],
)
def test_a_config_that_does_not_say_what_to_build_is_refused_by_the_field(
    version: str, changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(CheckpointUnsupported, match=named):
        MiniCPMVConfig(**config_of(version, **changes))


@pytest.mark.parametrize("written", [4, 4.0, "4", "4.0", "4.00"])
def test_a_version_is_told_however_it_is_written(written: Any) -> None:
    assert MiniCPMVConfig(**config_of("4.0", version=written)).get_text_config().model_type == "llama"


@pytest.mark.parametrize(("given", "layers"), [(False, 27), (None, 27), (True, 26)])
def test_the_towers_last_layer_is_never_dropped_in_silence(given: bool | None, layers: int) -> None:
    config = MiniCPMVConfig(**config_of("2.6", drop_vision_last_layer=... if given is None else given))
    assert config.vision_layers == layers


def test_sizes_are_the_language_models_and_reach_it() -> None:
    config = MiniCPMVConfig(**config_of("4.5"))
    config.get_text_config().vocab_size = 151800
    config.tie_word_embeddings = True
    assert (config.vocab_size, config.hidden_size) == (151800, 4096)
    assert config.get_text_config().tie_word_embeddings is True
    assert config.to_dict()["vocab_size"] == 151800
