"""Adapters as PEFT itself saves them, on tied and untied bases: none is flagged, and every row update is understood.

What PEFT writes is the ground truth here; nothing in this file names a tensor.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from measured import measure
from peft import IA3Config, LoraConfig, TrainableTokensConfig, get_peft_model
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from service.audit.judging import audit
from service.checkpoint.locating import locate
from service.checkpoint.reading import read_checkpoint
from service.demo import demo_root
from service.domain.facts import CheckpointFacts
from service.domain.judgement import MERGED, Severity
from tests.builders import TOKENIZER_FILES, add_token, copy_tokenizer, edited_json, token_id

LOUD = (Severity.FATAL, Severity.WARNING, Severity.SKIPPED)
ROWS = 800
TOKEN = "<stamp>"
EMBED, HEAD = "embed_tokens", "lm_head"
LAYOUTS: dict[str, dict[str, Any]] = {
    "linear": {},
    "dora": {"use_dora": True},
    "rslora": {"use_rslora": True},
    "lora_bias": {"lora_bias": True},
    "factors_on_embeddings": {"target_modules": ["q_proj", EMBED]},
    "factors_on_both": {"target_modules": ["q_proj", EMBED, HEAD]},
    "token_list": {"trainable_token_indices": "new"},
    "token_list_tied": {"trainable_token_indices": "new", "ensure_weight_tying": True},
    "token_dict": {"trainable_token_indices": {EMBED: "new", HEAD: "new"}},
    "save_embeddings": {"modules_to_save": [EMBED]},
    "save_embeddings_tied": {"modules_to_save": [EMBED], "ensure_weight_tying": True},
    "save_both": {"modules_to_save": [EMBED, HEAD]},
    "save_both_tied": {"modules_to_save": [EMBED, HEAD], "ensure_weight_tying": True},
}
TRAINS_INPUT = [name for name in LAYOUTS if name.split("_")[0] in ("factors", "token", "save")]
TRAINS_OUTPUT = {
    False: {"factors_on_both", "token_dict", "save_both", "save_both_tied"},
    True: {
        *("factors_on_both", "token_list", "token_list_tied", "token_dict"),
        *("save_embeddings_tied", "save_both", "save_both_tied"),
    },
}
"""Layouts that also change the output row, by whether the base is tied."""


def llama(*, is_tied: bool) -> LlamaForCausalLM:
    torch.manual_seed(0)
    stop = token_id(demo_root() / "base", "<|im_end|>")
    config = LlamaConfig(
        vocab_size=ROWS,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        attention_bias=True,
        tie_word_embeddings=is_tied,
        eos_token_id=stop,
        bos_token_id=None,
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(eos_token_id=stop)
    return model


def save_adapter(folder: Path, new_id: int, layout: dict[str, Any], *, is_tied: bool, is_trained: bool = True) -> None:
    values = {"r": 2, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM", **layout}
    indices = values.get("trainable_token_indices")
    if indices == "new":
        values["trainable_token_indices"] = [new_id]
    elif indices:
        values["trainable_token_indices"] = {module: [new_id] for module in indices}
    model = get_peft_model(llama(is_tied=is_tied), LoraConfig(**values))
    with torch.no_grad():
        for name, one in model.named_parameters():
            if one.requires_grad and (is_trained or "q_proj" in name):
                one += 0.1 * torch.randn_like(one)
    model.save_pretrained(folder)
    copy_with_token(folder)


def copy_with_token(folder: Path) -> None:
    copy_tokenizer(demo_root() / "base", folder)
    add_token(folder, TOKEN)


@pytest.fixture(scope="module", params=[False, True], ids=["untied", "tied"])
def is_tied(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(scope="module")
def base(is_tied: bool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama") / "base"
    llama(is_tied=is_tied).save_pretrained(folder)
    copy_tokenizer(demo_root() / "base", folder)
    return folder


@pytest.fixture(scope="module")
def new_id(base: Path) -> int:
    return token_id(base, "</think>") + 1


@pytest.fixture(scope="module")
def folders(base: Path, new_id: int, is_tied: bool) -> dict[str, Path]:
    saved = {name: base.parent / name for name in LAYOUTS}
    for name, folder in saved.items():
        save_adapter(folder, new_id, LAYOUTS[name], is_tied=is_tied)
    return saved


@pytest.fixture(scope="module")
def facts(base: Path, folders: dict[str, Path]) -> CheckpointFacts:
    return read_checkpoint(locate(str(base)), {name: locate(str(one)) for name, one in folders.items()})


def test_nothing_but_untrained_new_tokens_is_flagged(
    base: Path, folders: dict[str, Path], facts: CheckpointFacts
) -> None:
    report = audit(facts, measure(base, folders))
    loud = [one for one in report.findings() if one.severity in LOUD and one.check != "trained_rows"]
    assert [(one.subject, one.message) for one in loud] == []


def test_input_and_output_rows_count_as_trained_exactly_where_peft_changes_them(
    facts: CheckpointFacts, is_tied: bool
) -> None:
    report = audit(facts)
    for name in LAYOUTS:
        found = [one for one in report.subjects[f"adapter:{name}"].findings if one.check == "trained_rows"]
        severity = "fatal" if name not in TRAINS_INPUT else "note" if name in TRAINS_OUTPUT[is_tied] else "warning"
        assert [one.severity.value for one in found] == [severity], (name, found)
        assert TOKEN in str(found[0].evidence)


def test_rows_that_are_saved_but_were_never_trained_do_not_count(base: Path, new_id: int, is_tied: bool) -> None:
    folders = {name: base.parent / f"idle_{name}" for name in ("factors_on_both", "token_dict", "save_both")}
    for name, folder in folders.items():
        save_adapter(folder, new_id, LAYOUTS[name], is_tied=is_tied, is_trained=False)
    report = audit(read_checkpoint(locate(str(base)), {name: locate(str(one)) for name, one in folders.items()}))
    for name in folders:
        found = [one for one in report.subjects[f"adapter:{name}"].findings if one.check == "trained_rows"]
        assert [one.severity.value for one in found] == ["fatal"], (name, report.subjects[f"adapter:{name}"].findings)


@pytest.mark.parametrize("layout", ["linear", "save_embeddings", "save_both"])
def test_a_merged_adapter_may_untie_the_matrices(layout: str, base: Path, new_id: int, is_tied: bool) -> None:
    folder = base.parent / f"merged_{layout}"
    save_adapter(folder, new_id, LAYOUTS[layout], is_tied=is_tied)
    for name in TOKENIZER_FILES:
        (folder / name).unlink()
    facts = read_checkpoint(locate(str(base)), {MERGED: locate(str(folder))})
    loaded = measure(base, {}, merged=folder)
    assert loaded.base.is_tied is (is_tied and layout == "linear")
    report = audit(facts, loaded)
    assert [one.message for one in report.findings() if one.severity in LOUD] == []


def test_factors_that_merging_writes_into_a_shared_matrix_are_refused(base: Path, new_id: int, is_tied: bool) -> None:
    folder = base.parent / "merged_factors"
    save_adapter(folder, new_id, LAYOUTS["factors_on_embeddings"], is_tied=is_tied)
    for name in TOKENIZER_FILES:
        (folder / name).unlink()
    facts = read_checkpoint(locate(str(base)), {MERGED: locate(str(folder))})
    report = audit(facts, measure(base, {}, merged=folder))
    loud = [(one.check, one.message) for one in report.findings() if one.severity in LOUD]
    assert [check for check, message in loud if "differ from mounted" in message] == ["adapter_applied"] * is_tied
    assert len(loud) == is_tied


@pytest.mark.parametrize("bias", ["all", "lora_only"])
def test_trained_biases_are_a_part_of_the_adapter(bias: str, base: Path, new_id: int, is_tied: bool) -> None:
    folder = base.parent / f"bias_{bias}"
    save_adapter(folder, new_id, {"bias": bias}, is_tied=is_tied)
    with edited_json(folder / "tokenizer.json") as document:
        document["added_tokens"].pop()
    facts = read_checkpoint(locate(str(base)), {"a": locate(str(folder))})
    report = audit(facts, measure(base, {"a": folder}))
    assert [one.message for one in report.findings() if one.severity in LOUD] == []


def test_an_adapter_that_only_trains_tokens_is_understood(base: Path, new_id: int, is_tied: bool) -> None:
    folder = base.parent / "only_tokens"
    targets = [EMBED] if is_tied else [EMBED, HEAD]
    config = TrainableTokensConfig(token_indices=[new_id], target_modules=targets, task_type="CAUSAL_LM")
    model = get_peft_model(llama(is_tied=is_tied), config)
    with torch.no_grad():
        for one in model.parameters():
            if one.requires_grad:
                one += 0.1 * torch.randn_like(one)
    model.save_pretrained(folder)
    copy_with_token(folder)
    facts = read_checkpoint(locate(str(base)), {"a": locate(str(folder))})
    report = audit(facts, measure(base, {"a": folder}))
    assert [one.message for one in report.findings() if one.severity in LOUD] == []


def test_another_type_of_adapter_is_served_with_a_warning_and_not_refused(base: Path, is_tied: bool) -> None:
    folder = base.parent / "ia3"
    config = IA3Config(target_modules=["k_proj"], feedforward_modules=[], task_type="CAUSAL_LM")
    model = get_peft_model(llama(is_tied=is_tied), config)
    with torch.no_grad():
        for one in model.parameters():
            if one.requires_grad:
                one += 0.5
    model.save_pretrained(folder)
    report = audit(read_checkpoint(locate(str(base)), {"a": locate(str(folder))}), measure(base, {"a": folder}))
    assert [(one.check, one.severity.value) for one in report.findings() if one.severity in LOUD] == [
        ("adapter_applied", "warning")
    ]
