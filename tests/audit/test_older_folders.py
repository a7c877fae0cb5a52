"""MiniCPM-V 2.6, 4.0 and 4.5 in the official layout: a fault is found by exactly its check, a difference by none."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file

from service.audit.check import AdapterView, BaseView
from service.audit.checks import saved_modules
from service.audit.checks.minicpmv import base_minicpmv
from service.audit.checks.picture_markers import base_picture_markers
from service.audit.checks.saved_modules import adapter_saved_modules
from service.audit.judging import audit
from service.audit.older_minicpmv import OFFICIAL, stored_version
from service.checkpoint.locating import locate
from service.checkpoint.reading import read_checkpoint
from service.domain.facts import BaseFacts
from service.domain.judgement import BASE, Severity, Verdict, adapter_subject
from service.domain.minicpmv import LANGUAGES
from service.engine.families.family import LoadOptions
from service.engine.families.minicpmv.loading import load_minicpmv
from tests.audit.older_folders import BROKEN, SOUND, VERSIONS, copied, official
from tests.audit.older_registry import LOOSE, SAVED, dropped
from tests.builders import PREFIX, Folders, edited_tensors
from tests.engine.minicpmv.official import CONFIGS

QUIET = (Severity.NOTE, Severity.SKIPPED)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Folders]:
    root = tmp_path_factory.mktemp("official")
    made = {}
    for version in VERSIONS:
        (root / version).mkdir()
        made[version] = official(version, root / version)
    return made


@pytest.mark.parametrize("name", BROKEN)
def test_a_fault_is_found_by_exactly_its_check(name: str, sources: dict[str, Folders], tmp_path: Path) -> None:
    case = BROKEN[name]
    folders = copied(sources[case.version], tmp_path)
    case.make(folders)
    report = audit(folders.facts(with_adapter=case.subject == "adapter"))
    subject = BASE if case.subject == "base" else adapter_subject("adapter")
    found = [one for one in report.findings() if one.severity not in QUIET]
    assert {(one.check, one.severity.value, one.subject) for one in found} == {(case.check, case.severity, subject)}, [
        one.message for one in found
    ]
    assert any(case.named in one.message for one in found), [one.message for one in found]
    assert all(one.evidence and one.consequence and one.repair for one in found)
    is_fatal = case.severity == "fatal"
    assert report.subjects[subject].verdict is (Verdict.INCONSISTENT if is_fatal else Verdict.CONSISTENT)


@pytest.mark.parametrize("name", SOUND)
def test_a_difference_that_changes_nothing_is_not_found(name: str, sources: dict[str, Folders], tmp_path: Path) -> None:
    version, make = SOUND[name]
    folders = copied(sources[version], tmp_path)
    make(folders)
    report = audit(folders.facts())
    assert [(one.check, one.message) for one in report.findings() if one.severity is not Severity.NOTE] == []
    assert report.overall is Verdict.CONSISTENT


@pytest.mark.parametrize("name", ["only_one_of_two_stop_tokens", "config_json_alone_names_a_stop_token"])
def test_a_stop_token_that_the_files_do_not_name_is_noted(
    name: str, sources: dict[str, Folders], tmp_path: Path
) -> None:
    """The official 2.6 is such a folder, and this service stops there all the same."""
    version, make = SOUND[name]
    folders = copied(sources[version], tmp_path)
    make(folders)
    noted = [one for one in audit(folders.facts()).findings() if one.check == "minicpmv"]
    assert [(one.severity, "<|endoftext|>" in one.message) for one in noted] == [(Severity.NOTE, True)]


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("foo.bar", "minicpmv"),
        ("resampler.attn.extra", "weights_complete"),
        ("vpm.encoder.layers.2.mlp.fc1.bias", "weights_complete"),
        ("llm.model.layers.0.self_attn.q_proj.lora_A.weight", "weights_complete"),
    ],
)
def test_a_tensor_too_many_is_one_finding(name: str, check: str, sources: dict[str, Folders], tmp_path: Path) -> None:
    folders = copied(sources["4.5"], tmp_path)
    with edited_tensors(folders.base_weights) as tensors:
        tensors[name] = torch.ones(4)
    findings = audit(folders.facts(with_adapter=False)).findings()
    assert [
        (one.check, one.severity) for one in findings if one.severity is not Severity.NOTE or name in one.message
    ] == [(check, Severity.FATAL)]


def test_tensors_for_hearing_and_speaking_are_not_even_noted(sources: dict[str, Folders], tmp_path: Path) -> None:
    folders = copied(sources["4.5"], tmp_path)
    SOUND["it_can_also_hear_and_speak"][1](folders)
    assert not [one for one in audit(folders.facts()).findings() if "apm." in one.message]


def test_where_a_tensor_is_lost_loading_is_refused_and_the_repair_is_named(
    sources: dict[str, Folders], tmp_path: Path
) -> None:
    folders = copied(sources["4.5"], tmp_path)
    with edited_tensors(folders.base_weights) as tensors:
        del tensors["resampler.attn.in_proj_bias"]
    (found,) = [one for one in audit(folders.facts()).findings() if one.severity is Severity.FATAL]
    assert found.consequence.startswith("Loading is refused")
    assert "minicpm-service repair MODEL --base BASE" in found.repair


def test_the_audit_knows_the_versions_that_can_be_loaded() -> None:
    assert set(OFFICIAL) == set(LANGUAGES)


def facts_of(sources: dict[str, Folders], version: str, **changes: Any) -> BaseFacts:
    base = read_checkpoint(locate(str(sources[version].base)), {}).base
    config = {**base.documents["config.json"], **changes}
    return replace(base, documents={**base.documents, "config.json": config})


@pytest.mark.parametrize(
    ("version", "changes", "named"),
    [
        ("2.6", {"hidden_size": 3584, "num_attention_heads": 14, "num_key_value_heads": 2}, "num_attention_heads 14"),
        ("4.0", {"hidden_size": 2560, "num_attention_heads": 32, "num_key_value_heads": 2, "head_dim": 64}, "64"),
        ("4.5", {"hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 32}, "num_key_value_heads 32"),
    ],
)
def test_heads_of_an_official_size_must_be_the_official_ones(
    version: str, changes: dict[str, Any], named: str, sources: dict[str, Folders]
) -> None:
    found = list(base_minicpmv(BaseView(facts_of(sources, version, **changes), None)))
    assert [named in one.message for one in found if "in its official size" in one.message] == [True]


def test_the_tower_of_the_official_size_has_16_heads(sources: dict[str, Folders]) -> None:
    facts = facts_of(sources, "2.6")
    for heads, expected in ((16, 0), (12, 1)):
        tower = {**facts.documents["config.json"]["vision_config"], "hidden_size": 1152, "num_attention_heads": heads}
        found = list(base_minicpmv(BaseView(facts_of(sources, "2.6", vision_config=tower), None)))
        assert len([one for one in found if "in its official size" in one.message]) == expected


@pytest.mark.parametrize(
    ("version", "ids", "size", "named"),
    [
        ("4.5", {"<image>": 151646, "<unk>": 128244}, 151666, "<image> has id 151646"),  # the tokenizer of 2.6
        ("2.6", {"<image>": 101, "<unk>": 0}, 73448, "<image> has id 101"),  # of 4.0
        ("4.0", {"<image>": 101, "<unk>": 0}, 64000, "ends at id 63999"),
        ("2.6", {"<image>": 151646, "<unk>": 128244}, 151666, ""),
        ("4.5", {"<image>": 151669, "<unk>": 128244}, 151748, ""),
        ("4.0", {"<image>": 101, "<unk>": 0}, 73448, ""),
    ],
)
def test_a_tokenizer_of_another_version_is_told_by_its_ids(
    version: str, ids: dict[str, int], size: int, named: str, sources: dict[str, Folders]
) -> None:
    facts = facts_of(sources, version)
    assert facts.tokenizer is not None
    assert facts.embedding is not None
    tokenizer = replace(facts.tokenizer, vocabulary={**facts.tokenizer.vocabulary, **ids}, max_id=size - 1)
    whole = replace(facts, tokenizer=tokenizer, embedding=replace(facts.embedding, num_rows=OFFICIAL[version].rows))
    found = [one.message for one in base_picture_markers(BaseView(whole, None)) if one.severity is Severity.FATAL]
    assert [named in one for one in found] == ([True] if named else [])


def test_a_2_5_is_not_taken_for_a_4_0() -> None:
    names = ["llm.model.layers.0.self_attn.q_proj.weight", "resampler.query"]
    assert stored_version(names, {"hidden_size": 4096}) is None
    assert stored_version(names, {"hidden_size": 2560}) == 4.0


def test_no_loose_pickle_is_ever_opened(
    sources: dict[str, Folders], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = copied(sources["2.6"], tmp_path)
    BROKEN["half_of_the_training_is_in_a_pickle"].make(folders)
    opened: list[str] = []
    real = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *args, **more: opened.append(self.name) or real(self, *args, **more))
    monkeypatch.setattr("torch.load", lambda *args, **more: pytest.fail("a pickle was loaded"))
    audit(folders.facts())
    assert not [one for one in opened if one.endswith(".pt")]


def test_of_a_pickle_beside_whole_modules_only_what_is_known_is_said(
    sources: dict[str, Folders], tmp_path: Path
) -> None:
    folders = copied(sources["2.6"], tmp_path)
    SOUND["a_pickle_repeats_the_file"][1](folders)
    (found,) = [one for one in audit(folders.facts()).findings() if one.check == "saved_modules"]
    assert found.severity is Severity.NOTE
    assert "which adapter_model.safetensors holds too" in found.message
    assert "whether its values are the same is not known" in found.consequence


@pytest.mark.parametrize("prefix", ["", "module.base_model.model.", "base_model.model."])
def test_the_page_s_lines_bring_a_pickle_s_tensors_into_the_adapter(
    prefix: str, sources: dict[str, Folders], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = copied(sources["4.5"], tmp_path)
    trained = load_file(folders.adapter_weights)
    dropped(folders, *SAVED)
    loose = {prefix + key.removeprefix(PREFIX): one for key, one in trained.items() if ".lora_" not in key}
    torch.save({**loose, f"{prefix}resampler.original_module.query": torch.ones(2)}, folders.adapter / LOOSE)
    assert [one.check for one in audit(folders.facts()).findings() if one.severity not in QUIET] == ["adapter_lineage"]
    lines = saved_modules.WHY.partition("```python\n")[2].partition("```")[0]
    lines = lines.replace('Path("BASE")', f"Path({str(folders.base)!r})")
    exec(lines.replace('Path("ADAPTER")', f"Path({str(folders.adapter)!r})"), {})
    assert "original_module" in capsys.readouterr().out
    after = load_file(folders.adapter_weights)
    assert {key: one.tolist() for key, one in after.items()} == {key: one.tolist() for key, one in trained.items()}
    assert [one for one in audit(folders.facts()).findings() if one.severity not in QUIET] == []


@pytest.mark.parametrize("target", [r"resampler\.attn", r"resampler\.kv_proj", r"vpm\..*\.(q_proj|out_proj|fc1)"])
def test_factors_on_the_resampler_and_on_the_tower_are_as_sound_as_on_the_language_model(
    target: str, sources: dict[str, Folders], tmp_path: Path
) -> None:
    folders = copied(sources["4.5"], tmp_path)
    model, _ = load_minicpmv(folders.base, LoadOptions(torch.device("cpu"), torch.float32, None, is_code_trusted=False))
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=target, init_lora_weights=False))
    adapted.save_pretrained(folders.adapter)
    found = audit(folders.facts(with_adapter=True)).findings()
    assert [(one.check, one.message) for one in found if one.severity not in QUIET] == []


def test_an_adapter_of_another_version_is_told_by_its_width(sources: dict[str, Folders]) -> None:
    facts = sources["4.5"].facts()
    adapter = facts.adapters["adapter"]
    wide = {key: replace(one, shape=(4, 3584)) for key, one in adapter.lora.items() if "lora_A" in key}
    found = list(adapter_saved_modules(AdapterView(facts.base, replace(adapter, lora=wide), None)))
    assert [("MiniCPM-V 2.6" in one.message, one.evidence["base"]) for one in found] == [(True, 128)]
    assert list(adapter_saved_modules(AdapterView(facts.base, adapter, None))) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_the_official_configs_are_consistent(version: str, sources: dict[str, Folders]) -> None:
    facts = facts_of(sources, version)
    layers = {f"vpm.encoder.layers.{place}.mlp.fc1.bias": next(iter(facts.tensors.values())) for place in range(27)}
    settings = {**facts.documents["preprocessor_config.json"], "scale_resolution": 448, "image_feature_size": 64}
    documents = {**facts.documents, "config.json": CONFIGS[version], "preprocessor_config.json": settings}
    whole = replace(facts, documents=documents, tensors=layers, blueprint=None)
    assert [one.message for one in base_minicpmv(BaseView(whole, None))] == []
    assert f"{stored_version(facts.tensors, CONFIGS[version])}" == version
