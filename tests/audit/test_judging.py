"""What follows from findings: policies, waivers, and rules that cannot run."""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service.audit.catalogue import CHECKS
from service.audit.check import AdapterView, BaseView, Check, Outcome
from service.audit.judging import audit
from service.audit.reports.document import report_json
from service.audit.reports.text import report_text
from service.domain.facts import CheckpointFacts, FileProblem, LoadedAdapterFacts, LoadedBaseFacts, LoadedFacts
from service.domain.judgement import BASE, Policy, Severity, Verdict, Waiver
from tests.broken import new_tokens_only_read, stop_set_incomplete
from tests.builders import add_token, copy_demo, copy_tokenizer, edited_json

BROKEN_STOP = Waiver("stop_set", BASE, "stop strings are set by the client")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> CheckpointFacts:
    return copy_demo(tmp_path_factory.mktemp("sound")).facts()


@pytest.fixture(scope="module")
def broken_base(tmp_path_factory: pytest.TempPathFactory) -> CheckpointFacts:
    folders = copy_demo(tmp_path_factory.mktemp("broken"))
    stop_set_incomplete.make(folders)
    return folders.facts()


@pytest.fixture(scope="module")
def warned(tmp_path_factory: pytest.TempPathFactory) -> CheckpointFacts:
    folders = copy_demo(tmp_path_factory.mktemp("warned"), "tokens")
    new_tokens_only_read.make(folders)
    return folders.facts()


def test_the_checks_are_these_and_in_this_order() -> None:
    assert [check.check_id for check in CHECKS] == [
        "served_model",
        "files",
        "model_config",
        "weights_complete",
        "picture_settings",
        "minicpmv",
        "rows_cover_ids",
        "config_rows",
        "tied_embeddings",
        "special_ids",
        "tokenizer_faithful",
        "picture_markers",
        "stop_set",
        "tokenizer_sound",
        "tokenizer_unchanged",
        "token_flags",
        "chat_template",
        "origin",
        "merge",
        "adapter_keys",
        "adapter_config",
        "adapter_lineage",
        "adapter_applied",
        "extra_tensors",
        "saved_modules",
        "finite_weights",
        "inner_weights",
        "trained_rows",
        "row_health",
        "adapter_effect",
        "flat_output",
        "answer_ends",
        "picture_effect",
        "control_text",
        "quantization",
        "lock",
        "other_servers",
    ]
    assert all(check.title and (check.of_base or check.of_adapter) for check in CHECKS)


@pytest.mark.parametrize(
    ("policy", "of_warned", "of_broken"),
    [
        (Policy.STRICT, Verdict.INCONSISTENT, Verdict.INCONSISTENT),
        (Policy.DEFAULT, Verdict.CONSISTENT, Verdict.INCONSISTENT),
        (Policy.PERMISSIVE, Verdict.CONSISTENT, Verdict.CONSISTENT),
    ],
)
def test_a_policy_says_which_severities_refuse(
    policy: Policy, of_warned: Verdict, of_broken: Verdict, warned: CheckpointFacts, broken_base: CheckpointFacts
) -> None:
    assert audit(warned, policy=policy).overall is of_warned
    assert audit(broken_base, policy=policy).overall is of_broken


def test_strict_also_refuses_what_could_not_be_checked(sound: CheckpointFacts) -> None:
    blind = replace(sound, base=replace(sound.base, tokenizer=None, template=None))
    assert audit(blind).verdict(BASE) is Verdict.CONSISTENT
    report = audit(blind, policy=Policy.STRICT)
    assert report.verdict(BASE) is Verdict.INCONSISTENT
    assert {one.severity for one in report.subjects[BASE].findings} == {Severity.SKIPPED}


def test_an_adapter_of_a_refused_base_is_refused_with_it(broken_base: CheckpointFacts) -> None:
    report = audit(broken_base)
    assert report.subjects["adapter:json"].verdict is Verdict.CONSISTENT
    assert report.verdict("adapter:json") is Verdict.INCONSISTENT


def test_a_refused_adapter_leaves_the_base_alone(warned: CheckpointFacts) -> None:
    report = audit(warned, policy=Policy.STRICT)
    assert report.verdict("adapter:tokens") is Verdict.INCONSISTENT
    assert report.verdict(BASE) is Verdict.CONSISTENT


def test_a_waived_finding_is_shown_and_does_not_refuse(broken_base: CheckpointFacts) -> None:
    report = audit(broken_base, waivers=[BROKEN_STOP])
    assert report.overall is Verdict.CONSISTENT
    (finding,) = report.subjects[BASE].findings
    assert (finding.severity, finding.waiver) == (Severity.FATAL, BROKEN_STOP)
    assert report.unmatched == ()
    assert report_json(report)["subjects"][BASE]["findings"][0]["waived"]["reason"] == BROKEN_STOP.reason
    assert f"waived: {BROKEN_STOP.reason}" in report_text(report)


@pytest.mark.parametrize(
    "waiver", [Waiver("stop_set", "adapter:json", "x"), Waiver("trained_rows", BASE, "x"), Waiver("typo", BASE, "x")]
)
def test_a_waiver_for_something_else_helps_nothing_and_is_reported(
    waiver: Waiver, broken_base: CheckpointFacts
) -> None:
    report = audit(broken_base, waivers=[waiver])
    assert report.overall is Verdict.INCONSISTENT
    assert report.unmatched == (waiver,)


def test_a_rule_that_raises_is_skipped_and_takes_nobody_down(sound: CheckpointFacts) -> None:
    def raises(view: BaseView | AdapterView) -> Iterator[Outcome]:
        yield Outcome(Severity.NOTE, "before", {}, "", "")
        raise KeyError("lm_head")

    check = Check("fragile", "Raises", of_base=raises, of_adapter=raises)
    for view in (BaseView(sound.base, None), AdapterView(sound.base, sound.adapters["json"], None)):
        (finding,) = check.run(view)
        assert (finding.severity, finding.subject) == (Severity.SKIPPED, view.subject)
        assert "fragile could not run: KeyError: 'lm_head'" in finding.message


def test_a_check_without_a_rule_for_a_subject_is_not_listed_for_it(sound: CheckpointFacts) -> None:
    report = audit(sound)
    assert "adapter_applied" not in report.subjects[BASE].checks
    assert "tied_embeddings" not in report.subjects["adapter:json"].checks


def loaded_base(facts: CheckpointFacts, **values: Any) -> LoadedBaseFacts:
    assert facts.base.embedding is not None
    rows = facts.base.embedding.num_rows
    sound = LoadedBaseFacts(rows, False, (), (), (), (), True, ())
    return replace(sound, **values)


def test_a_check_of_the_loaded_model_is_not_listed_before_it_is_loaded(sound: CheckpointFacts) -> None:
    assert "adapter_effect" not in audit(sound).subjects["adapter:json"].checks
    only_base = LoadedFacts(loaded_base(sound))
    assert "adapter_effect" not in audit(sound, only_base).subjects["adapter:json"].checks
    measured = LoadedAdapterFacts(None, (), (), 1.0, True, False, ())
    report = audit(sound, replace(only_base, adapters={"json": measured}))
    assert "adapter_effect" in report.subjects["adapter:json"].checks


def test_rows_made_up_while_loading_are_found(sound: CheckpointFacts) -> None:
    report = audit(sound, LoadedFacts(loaded_base(sound, embedding_rows=7)))
    (finding,) = report.subjects[BASE].findings
    assert (finding.check, finding.severity) == ("config_rows", Severity.FATAL)


def test_an_adapter_that_was_not_found_is_refused_by_name(sound: CheckpointFacts) -> None:
    from service.checkpoint.adapter import missing_adapter

    facts = replace(sound, adapters={"gone": missing_adapter("gone", "no such folder")})
    report = audit(facts)
    assert report.verdict("adapter:gone") is Verdict.INCONSISTENT
    assert "no such folder" in report.subjects["adapter:gone"].findings[0].message


def test_tokens_in_use_without_trained_rows_are_listed_for_the_live_count(warned: CheckpointFacts) -> None:
    undertrained = audit(warned).subjects["adapter:tokens"].undertrained
    assert undertrained == {one: text for text, one in warned.adapters["tokens"].new_tokens.items()}
    assert audit(warned).subjects[BASE].undertrained == {}


def test_the_json_report_is_plain_json_with_every_finding(warned: CheckpointFacts) -> None:
    report = audit(warned)
    document = json.loads(json.dumps(report_json(report), allow_nan=False))
    assert document["verdict"] == "consistent"
    assert document["is_complete"] is False
    adapter = document["subjects"]["adapter:tokens"]
    assert adapter["fingerprint"] == warned.adapters["tokens"].fingerprint
    (finding,) = [one for one in adapter["findings"] if one["check"] == "trained_rows"]
    assert finding["severity"] == "warning"
    assert finding["evidence"]["tokens"][0]["token"] == "<fig>"
    assert finding["consequence"]
    assert finding["repair"]


def test_the_text_report_names_the_worst_first_and_keeps_to_the_width(broken_base: CheckpointFacts) -> None:
    text = report_text(audit(broken_base), width=60)
    first, second, *_ = text.splitlines()
    assert first.startswith("base: INCONSISTENT")
    assert "✗ fatal stop_set" in second
    assert text.splitlines()[-1].startswith("NOT consistent under the default policy")
    assert all(len(line) <= 60 for line in text.splitlines() if line.startswith("  "))


def test_no_path_is_in_the_report(tmp_path: Path) -> None:
    folders = copy_demo(tmp_path)
    folders.base_weights.unlink()
    (folders.adapter / "adapter_config.json").write_text("{")
    (folders.base / "tokenizer.json").write_text("{}")
    report = audit(folders.facts())
    assert str(tmp_path) not in report_text(report)
    assert str(tmp_path) not in json.dumps(report_json(report))


def test_no_path_is_in_what_libraries_say(tmp_path: Path) -> None:
    folders = copy_demo(tmp_path)
    copy_tokenizer(folders.base, folders.adapter)
    with edited_json(folders.base / "config.json") as config:
        config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}
    for folder in (folders.base, folders.adapter):
        (folder / "own.py").write_text("")
        with edited_json(folder / "tokenizer_config.json") as config:
            config |= {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", "own.Own"]}}
    (folders.adapter / "adapter_model.safetensors").unlink()
    (folders.adapter / "adapter_model.safetensors").symlink_to("adapter_model.safetensors")
    (folders.base / "chat_template.jinja").write_text(f"{{{{ raise_exception('{tmp_path}/a/b failed') }}}}")
    report = audit(folders.facts())
    for text in (report_text(report, width=10_000), json.dumps(report_json(report))):
        assert str(tmp_path) not in text
        assert tempfile.gettempdir() + "/" not in text
    assert "contains custom code" in report_text(report, width=10_000)


def test_control_characters_in_names_do_not_reach_a_terminal(sound: CheckpointFacts) -> None:
    adapter = replace(sound.adapters["json"], problems=(FileProblem("x\x1b[2J\x07", "is\nbroken"),))
    text = report_text(audit(replace(sound, adapters={"json": adapter})))
    assert "\x1b" not in text
    assert "\\x1b[2J\\x07 is\\nbroken" in text


def test_what_other_servers_do_is_not_said_of_an_adapter_that_is_refused(tmp_path: Path) -> None:
    folders = copy_demo(tmp_path, "broken")
    refused = folders.facts()
    waiver = Waiver("trained_rows", f"adapter:{next(iter(refused.adapters))}", "known")
    said = [{one.check for one in audit(refused, waivers=given).findings()} for given in ([], [waiver])]
    assert ["other_servers" in one for one in said] == [False, True]


@pytest.mark.parametrize(("count", "wanted"), [(1, "neither its input row nor its output row is in"), (2, "nor their")])
def test_untrained_rows_are_named_in_the_right_number(count: int, wanted: str, tmp_path: Path) -> None:
    folders = copy_demo(tmp_path, "json")
    copy_tokenizer(folders.base, folders.adapter)
    for token in ("<scene>", "<part>")[:count]:
        add_token(folders.adapter, token)
    (found,) = [one for one in audit(folders.facts()).findings() if one.check == "trained_rows"]
    assert wanted in found.message
    assert "as noise" not in found.consequence
