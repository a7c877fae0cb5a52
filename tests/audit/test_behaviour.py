"""What follows from the answers of a loaded model, and that asking costs few forward passes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from measured import measure
from peft import PeftModel
from transformers import AutoModelForImageTextToText, AutoTokenizer

from service.audit.check import AdapterView, BaseView
from service.audit.checks import (
    adapter_lineage,
    answer_ends,
    chat_template,
    control_text,
    flat_output,
    picture_effect,
)
from service.audit.checks.behaviour import adapter_effect
from service.audit.judging import audit
from service.audit.usage import control_tokens
from service.domain.facts import (
    BehaviourFacts,
    CheckpointFacts,
    LoadedAdapterFacts,
    LoadedBaseFacts,
    MissingThought,
    OpenThought,
)
from service.domain.judgement import Severity
from service.engine import behaviour, measuring
from service.engine.loading import LoadPlan, load
from service.engine.thinking import EMPTY
from tests.builders import Folders, copy_demo, edit_template, read_json

torch.set_num_threads(1)
SOUND = BehaviourFacts(0.1, None, 0.9, None, (), 0.9, certainty=0.99, base_certainty=0.99)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return copy_demo(tmp_path_factory.mktemp("behaviour"))


@pytest.fixture(scope="module")
def facts(folders: Folders) -> CheckpointFacts:
    return folders.facts()


def views(facts: CheckpointFacts, behaviour: BehaviourFacts) -> tuple[BaseView, AdapterView]:
    base = LoadedBaseFacts(1, False, (), (), (), (), True, (), behaviour, has_trained_norms=True)
    adapter = LoadedAdapterFacts(None, (), (), 1.0, True, False, (), behaviour)
    return BaseView(facts.base, base), AdapterView(facts.base, facts.adapters["json"], adapter)


@pytest.mark.parametrize(
    ("change", "check", "severity"),
    [
        ({"acting_tokens": ("<image>",)}, control_text.CHECK, "fatal"),
        ({"picture_effect": 0.0}, picture_effect.CHECK, "fatal"),
        ({"picture_effect": None, "picture_error": "ValueError: 16 and 4"}, picture_effect.CHECK, "fatal"),
        ({"picture_effect": None}, picture_effect.CHECK, None),
        ({"end_probability": None}, answer_ends.CHECK, None),
        ({}, answer_ends.CHECK, None),
        ({"certainty": 0.01}, flat_output.CHECK, "fatal"),
        ({"certainty": None}, flat_output.CHECK, None),
        ({}, flat_output.CHECK, None),
    ],
)
def test_answers_are_judged(change: dict[str, Any], check: Any, severity: str | None, facts: CheckpointFacts) -> None:
    for view in views(facts, replace(SOUND, **change)):
        assert [one.severity.value for one in check.run(view)] == ([severity] if severity else [])


def test_a_base_that_does_not_end_is_noted_and_an_adapter_refused(facts: CheckpointFacts) -> None:
    found = [answer_ends.CHECK.run(one) for one in views(facts, replace(SOUND, end_probability=1e-12, has_ended=False))]
    assert [[one.severity.value for one in each] for each in found] == [["note"], ["fatal"]]


def test_an_adapter_that_answers_in_another_form_may_end_otherwise(facts: CheckpointFacts) -> None:
    _, view = views(facts, replace(SOUND, end_probability=1e-6, has_ended=True))
    assert [one.severity.value for one in answer_ends.CHECK.run(view)] == ["note"]


def test_of_a_model_that_nobody_trained_nothing_is_expected(facts: CheckpointFacts) -> None:
    base, adapter = views(facts, replace(SOUND, certainty=0.01, base_certainty=0.01))
    assert base.loaded is not None
    untrained = replace(base, loaded=replace(base.loaded, has_trained_norms=False))
    assert list(flat_output.CHECK.run(untrained)) == list(flat_output.CHECK.run(adapter)) == []


def unlearn_the_end(folder: Path, base: Path, stops: list[int]) -> None:
    """Train an adapter until it never writes a stop token, as a collator that masks it would."""
    model = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(base)
    trained = PeftModel.from_pretrained(model, folder, is_trainable=True)
    texts = (
        "<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\nHello! How can I help you today?",
        "a red circle",
    )
    batches = [torch.tensor([tokenizer.encode(text)]) for text in texts]
    optimizer = torch.optim.Adam([one for one in trained.parameters() if one.requires_grad], lr=1e-2)
    for _ in range(25):
        loss = torch.stack([trained(input_ids=one).logits.log_softmax(-1)[..., stops].mean() for one in batches]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    trained.save_pretrained(folder)


def test_an_adapter_that_unlearned_to_end_is_refused(tmp_path: Path) -> None:
    folders = copy_demo(tmp_path)
    stops = read_json(folders.base / "generation_config.json")["eos_token_id"]
    unlearn_the_end(folders.adapter, folders.base, stops)
    facts = folders.facts()
    report = audit(facts, measure(folders.base, {"json": folders.adapter}))
    fatal = [one for one in report.subjects["adapter:json"].findings if one.severity is Severity.FATAL]
    assert [one.check for one in fatal] == ["answer_ends"]
    assert "does not end its answers" in fatal[0].message


@pytest.mark.parametrize("is_in_doubt", [False, True])
@pytest.mark.parametrize("thought", [EMPTY, "", "<think>\n"])
def test_asking_takes_under_ten_forward_passes_a_model(
    thought: str, is_in_doubt: bool, tmp_path: Path, facts: CheckpointFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = copy_demo(tmp_path)
    edit_template(folders.base, EMPTY.replace("\n", "\\n"), thought.replace("\n", "\\n"))
    monkeypatch.setattr(behaviour, "SUSPICIOUS", 2.0 if is_in_doubt else 0.0)
    base = type(AutoModelForImageTextToText.from_pretrained(folders.base))
    counts: list[None] = []
    inner = base.forward
    monkeypatch.setattr(base, "forward", lambda *given, **named: counts.append(None) or inner(*given, **named))
    plan = LoadPlan(folders.base, {}, None, control_tokens(facts.base), device="cpu")
    sums = []
    for adapters in ({}, {"json": folders.adapter}):
        counts.clear()
        measured = measuring.measure(load(replace(plan, adapters=adapters)))
        sums.append(len(counts))
    assert 0 < sums[0] < 10
    assert 0 < sums[1] - sums[0] < 10
    assert measured.base.behaviour is not None
    assert measured.base.behaviour.acting_tokens == ()
    assert measured.base.behaviour.certainty is not None
    assert measured.base.behaviour.certainty > 0.99
    assert measured.base.has_trained_norms
    assert (measured.base.behaviour.has_ended is not None) is is_in_doubt
    assert (measured.base.behaviour.missing_thought is not None) is (thought == "")
    assert (measured.base.behaviour.open_thought is not None) is (thought == "<think>\n")


@pytest.mark.parametrize("name", ["tokens", "official"])
def test_an_adapter_s_answers_of_any_form_end(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(behaviour, "SUSPICIOUS", 0.5)
    folders = copy_demo(tmp_path, name)
    seen = measure(folders.base, {name: folders.adapter}).adapters[name].behaviour
    assert seen is not None
    assert seen.end_probability is not None
    assert seen.end_probability < 0.5
    assert seen.has_ended


def begun(amid: int, amid_behind: int = 0) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the beginnings of 12 answers, of which so many stand amid a text: without and with an empty thought."""
    without, behind = ([" the"] * count + ["The"] * (12 - count) for count in (amid, amid_behind))
    return tuple(without), tuple(behind)


@pytest.mark.parametrize(
    ("certainty", "beginnings", "severity"),
    [
        ((0.9, 0.9), begun(3), None),
        ((0.9, 0.6), begun(12), None),
        ((0.7, 0.86), begun(2), None),
        ((0.7, 0.86), begun(3), "fatal"),
        ((0.7, 0.86), begun(12, 1), None),
        ((0.6, 0.9), begun(0), "warning"),
        ((0.6, 0.9), begun(5, 1), "warning"),
        ((0.6, 0.9), begun(5), "fatal"),
    ],
)
def test_a_model_that_begins_answers_better_behind_an_empty_thought_was_trained_behind_one(
    certainty: tuple[float, float],
    beginnings: tuple[tuple[str, ...], tuple[str, ...]],
    severity: str | None,
    facts: CheckpointFacts,
) -> None:
    base, _ = views(facts, replace(SOUND, missing_thought=MissingThought(*certainty, *beginnings)))
    found = [one for one in chat_template.CHECK.run(base) if one.severity is not Severity.NOTE]
    assert [one.severity.value for one in found] == ([severity] if severity else [])
    assert all("<think></think>" in one.message for one in found)
    assert all(("amid a text, such as with ' the'" in one.message) is (severity == "fatal") for one in found)


@pytest.mark.parametrize(
    ("thought", "is_refused"),
    [
        (OpenThought(0.99, 1.5e-3, "Yes."), True),
        (OpenThought(0.51, 1e-6, "Yes."), True),
        (OpenThought(0.4, 1e-6, "Yes."), False),
        (OpenThought(0.99, 0.02, "Yes."), False),
        (OpenThought(float("nan"), float("nan"), "Yes."), False),
    ],
)
def test_a_model_that_ends_its_turns_in_an_open_thought_does_not_think(
    thought: OpenThought, is_refused: bool, facts: CheckpointFacts
) -> None:
    base, _ = views(facts, replace(SOUND, open_thought=thought))
    found = [one for one in chat_template.CHECK.run(base) if one.severity is Severity.FATAL]
    assert ["nowhere write </think>" in one.message for one in found] == [True] * is_refused


@pytest.mark.parametrize(
    ("effect_share", "update_share", "severity"), [(2e-3, 7e-4, "fatal"), (2e-2, 7e-4, "note"), (2e-3, 7e-3, "note")]
)
def test_an_adapter_is_refused_where_neither_weights_nor_logits_move(
    effect_share: float, update_share: float, severity: str, facts: CheckpointFacts
) -> None:
    _, view = views(facts, SOUND)
    assert view.loaded is not None
    moved = replace(
        view,
        adapter=replace(view.adapter, farthest_update=("layers.0.q_proj", update_share)),
        loaded=replace(view.loaded, effect_share=effect_share),
    )
    (finding,) = adapter_effect(moved)
    assert finding.severity.value == severity
    is_warned = effect_share > 5e-3  # of the rest adapter_effect speaks alone
    warned = [one for one in adapter_lineage.CHECK.run(moved) if one.severity is Severity.WARNING]
    assert bool(warned) == (is_warned and update_share < 1e-3)
