"""Loading: views share the base, one bad adapter harms nobody, merged and mounted are the same."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
import torch
from jobs import answer, ask, greedy
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from service.demo import demo_root
from service.demo.drawing import Scene, draw
from service.engine.adapters import mount, share
from service.engine.engine import Engine, Limits
from service.engine.loading import LoadPlan, cast, choose_device, choose_dtype, load
from service.errors import CheckpointUnreadable

QUESTIONS = ("What is in the picture?", "图里有什么？")
SCENES = (Scene("red", "circle", 1, "top left", 1), Scene("blue", "star", 3, "center", 2))


def tokens_of(engine: Engine, adapter: str | None) -> list[str]:
    return [
        answer(engine, ask(question, draw(scene), adapter=adapter, sampling=greedy(40)))[1].text
        for scene in SCENES
        for question in QUESTIONS
    ]


def test_merged_folder_merged_at_load_and_mounted_give_the_same_tokens_in_float32(
    engine: Engine, plan_of: Callable[..., LoadPlan]
) -> None:
    mounted = tokens_of(engine, "json")
    at_load = Engine(load(plan_of(demo_root() / "base", merged_adapter=demo_root() / "adapters" / "json")), Limits(8))
    folder = Engine(load(plan_of(demo_root() / "merged")), Limits(8))
    assert tokens_of(at_load, None) == mounted
    assert tokens_of(folder, None) == mounted
    assert mounted != tokens_of(engine, None)
    at_load.stop()
    folder.stop()


def test_a_view_shares_every_tensor_with_the_base(engine: Engine) -> None:
    base = engine.loaded.base.model
    view = share(base)
    assert view is not base
    assert [one.data_ptr() for one in view.parameters()] == [one.data_ptr() for one in base.parameters()]


def test_mounting_leaves_the_base_s_modules_alone(engine: Engine) -> None:
    names = {name for name, _ in engine.loaded.base.model.named_modules()}
    assert not any("lora" in name or "modules_to_save" in name for name in names)


def test_an_adapter_that_peft_cannot_load_is_reported_and_the_others_are_served(
    tmp_path: Path, plan_of: Callable[..., LoadPlan]
) -> None:
    bad = tmp_path / "bad"
    shutil.copytree(demo_root() / "adapters" / "json", bad)
    config = json.loads((bad / "adapter_config.json").read_text())
    (bad / "adapter_config.json").write_text(json.dumps({**config, "target_modules": ["no_such_module"]}))
    loaded = load(plan_of(demo_root() / "base", adapters={"bad": bad, "good": demo_root() / "adapters" / "json"}))
    assert list(loaded.adapters) == ["good"]
    assert "No modules were targeted" in (loaded.reports["bad"].error or "")
    assert loaded.reports["good"].effect > 0


def test_an_adapter_whose_tensors_peft_writes_over_the_base_s_leaves_the_base_as_it_was(
    tmp_path: Path, plan_of: Callable[..., LoadPlan]
) -> None:
    """The popular fix for servers that reject `modules_to_save`: PEFT then copies the tensors into the base."""
    stripped, sound = tmp_path / "stripped", demo_root() / "adapters" / "official"
    shutil.copytree(sound, stripped)
    config = json.loads((stripped / "adapter_config.json").read_text())
    (stripped / "adapter_config.json").write_text(json.dumps({**config, "modules_to_save": None}))
    plan = plan_of(demo_root() / "base", adapters={"stripped": stripped, "official": sound})
    engine = Engine(load(plan), Limits(8))
    reports = engine.loaded.reports
    assert not reports["stripped"].has_changed_base
    assert reports["stripped"].effect == reports["official"].effect
    stored = load_file(demo_root() / "base" / "model.safetensors")["model.language_model.embed_tokens.weight"]
    assert torch.equal(engine.loaded.base.model.get_input_embeddings().weight, stored.float())
    engine.stop()


def test_an_adapter_with_trained_biases_leaves_the_base_as_it_was(
    tmp_path: Path, plan_of: Callable[..., LoadPlan]
) -> None:
    folder = tiny.make("minicpm-v-4.7", tmp_path / "model")
    target = r".*vision_tower.*(q|k)_proj"
    model = get_peft_model(
        AutoModelForImageTextToText.from_pretrained(folder), LoraConfig(r=2, target_modules=target, bias="all")
    )
    with torch.no_grad():
        for name, one in model.named_parameters():
            if one.requires_grad:
                one.add_(0.1 if name.endswith("bias") else 0.01)
    model.save_pretrained(tmp_path / "biased")
    loaded = load(plan_of(folder, adapters={"biased": tmp_path / "biased"}))
    assert loaded.reports["biased"].error is None
    assert loaded.reports["biased"].effect > 0
    assert not loaded.reports["biased"].has_changed_base
    assert loaded.reports["biased"].unexpected_keys == loaded.reports["biased"].missing_keys == ()


def test_keys_that_no_module_takes_are_reported(tmp_path: Path, engine: Engine) -> None:
    folder = tmp_path / "prefixed"
    shutil.copytree(demo_root() / "adapters" / "json", folder)
    tensors = load_file(folder / "adapter_model.safetensors")
    renamed = {key.replace("language_model.layers", "llm.layers"): one for key, one in tensors.items()}
    save_file(renamed, folder / "adapter_model.safetensors")
    mounted = mount(engine.loaded.base.model, folder)
    assert len(mounted.unexpected_keys) == len(tensors)
    assert mounted.missing_keys


def test_factors_on_a_named_parameter_do_what_they_do_on_its_module(tmp_path: Path, engine: Engine) -> None:
    sound, named = demo_root() / "adapters" / "json", tmp_path / "named"
    shutil.copytree(sound, named)
    config = json.loads((named / "adapter_config.json").read_text())
    config["target_modules"].remove("down_proj")
    (named / "adapter_config.json").write_text(json.dumps({**config, "target_parameters": ["down_proj.weight"]}))
    base = engine.loaded.base.model
    ids = torch.tensor([[5, 9, 17, 5]])
    with torch.no_grad():
        wanted, found = (mount(base, folder).model(input_ids=ids).logits for folder in (sound, named))
    torch.testing.assert_close(found, wanted)


def test_a_device_that_is_not_there_is_named_with_the_way_out() -> None:
    with pytest.raises(CheckpointUnreadable, match=r"cuda:7.*MINICPM_DEVICE"):
        choose_device("cuda:7")


def test_the_dtype_follows_the_file_on_a_gpu_and_is_exact_on_a_cpu() -> None:
    gpu, cpu = torch.device("cuda:0"), torch.device("cpu")
    assert choose_dtype("auto", gpu, {"torch_dtype": "float16"}) is torch.float16
    assert choose_dtype("auto", gpu, {"text_config": {"dtype": "bfloat16"}}) is torch.bfloat16
    assert choose_dtype("auto", cpu, {"dtype": "bfloat16"}) is torch.float32
    assert choose_dtype("bfloat16", cpu, {}) is torch.bfloat16


def test_a_base_with_only_pickle_weights_is_not_opened(tmp_path: Path, plan_of: Callable[..., LoadPlan]) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(demo_root() / "base", folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointUnreadable, match="safetensors"):
        load(plan_of(folder))


def test_a_base_that_cannot_be_asked_anything_says_why(tmp_path: Path, plan_of: Callable[..., LoadPlan]) -> None:
    shutil.copytree(demo_root() / "base", tmp_path / "base")
    file = tmp_path / "base" / "tokenizer_config.json"
    config = json.loads(file.read_text())
    del config["pad_token"]
    file.write_text(json.dumps(config))
    with pytest.raises(CheckpointUnreadable, match=r"base cannot be asked a question: ValueError: .*padding token"):
        load(plan_of(tmp_path / "base"))


def test_a_value_of_a_type_that_the_config_class_refuses_is_named_with_its_field(
    tmp_path: Path, plan_of: Callable[..., LoadPlan]
) -> None:
    shutil.copytree(demo_root() / "minicpmv4_5" / "base", tmp_path / "base")
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    (tmp_path / "base" / "config.json").write_text(json.dumps(config | {"rms_norm_eps": "1e-6"}))
    with pytest.raises(CheckpointUnreadable, match=r"'rms_norm_eps': TypeError.*expected float, got str"):
        load(plan_of(tmp_path / "base"))


def test_warnings_of_the_libraries_are_caught_while_loading(tmp_path: Path, plan_of: Callable[..., LoadPlan]) -> None:
    folder = tmp_path / "short"
    shutil.copytree(demo_root() / "base", folder)
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("lm_head.weight")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    loaded = load(plan_of(folder))
    assert any("lm_head" in one.message for one in loaded.warnings)
    assert {one.source for one in loaded.warnings} <= {"transformers", "peft", "python"}
    assert not any(str(tmp_path) in one.message for one in loaded.warnings)
    assert list(loaded.loading_info["missing_keys"]) == ["lm_head.weight"]


def test_bfloat16_on_a_cpu_still_answers(plan_of: Callable[..., LoadPlan]) -> None:
    engine = Engine(load(plan_of(demo_root() / "base", dtype="bfloat16")), Limits(8))
    _, generation = answer(engine, ask(QUESTIONS[0], draw(SCENES[0])))
    assert generation.usage.generated_tokens > 1
    engine.stop()


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_an_adapter_whose_start_takes_a_part_out_of_the_weights_leaves_the_base_as_it_was(
    init: str, tmp_path: Path, plan_of: Callable[..., LoadPlan]
) -> None:
    folder = tiny.make("causal (llama)", tmp_path / "model")
    config = LoraConfig(r=2, target_modules=["q_proj", "up_proj"], init_lora_weights=init, task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(folder), config)
    with torch.no_grad():
        for one in model.parameters():
            if one.requires_grad:
                one.add_(0.05)
    model.save_pretrained(tmp_path / init)
    loaded = load(plan_of(folder, adapters={"split": tmp_path / init}))
    stored = load_file(folder / "model.safetensors")
    for name, one in loaded.base.model.named_parameters():
        assert torch.equal(one, stored[name]), name
    assert loaded.reports["split"].error is None
    assert loaded.reports["split"].effect > 0
    assert not loaded.reports["split"].has_changed_base


@pytest.mark.parametrize("name", ["minicpm-v-4.7", "image-text (ernie)", "causal"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_casting_after_a_merge_gives_every_tensor_the_type_of_a_direct_load(
    name: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    """Notices when transformers changes the private attributes that say what stays in float32."""
    auto = AutoModelForCausalLM if name == "causal" else AutoModelForImageTextToText
    folder = tiny.make(name, tmp_path / "model")
    model = auto.from_pretrained(folder, dtype=torch.float32)
    cast(model, dtype)
    direct = auto.from_pretrained(folder, dtype=dtype)
    for kind in ("named_parameters", "named_buffers"):
        expected = {key: one.dtype for key, one in getattr(direct, kind)()}
        assert {key: one.dtype for key, one in getattr(model, kind)()} == expected


def test_a_merge_in_bfloat16_answers_as_the_merged_folder_does(plan_of: Callable[..., LoadPlan]) -> None:
    json_adapter = demo_root() / "adapters" / "json"
    at_load = Engine(load(plan_of(demo_root() / "base", merged_adapter=json_adapter, dtype="bfloat16")), Limits(8))
    folder = Engine(load(plan_of(demo_root() / "merged", dtype="bfloat16")), Limits(8))
    assert tokens_of(at_load, None) == tokens_of(folder, None)
    at_load.stop()
    folder.stop()


def test_a_folder_that_cannot_be_loaded_is_named_without_its_path(
    tmp_path: Path, plan_of: Callable[..., LoadPlan]
) -> None:
    folder = tmp_path / "no-processor"
    shutil.copytree(demo_root() / "base", folder)
    (folder / "processor_config.json").unlink()
    with pytest.raises(CheckpointUnreadable, match="no-processor") as refusal:
        load(plan_of(folder))
    assert str(tmp_path) not in refusal.value.detail
