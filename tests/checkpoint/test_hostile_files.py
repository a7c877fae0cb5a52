"""Folders that are damaged or made to harm: always facts with problems, never an exception, and soon."""

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from judged import judged

from service.audit.reports.text import report_text
from service.domain.judgement import Report, Verdict
from tests.builders import (
    Folders,
    copy_demo,
    copy_tokenizer,
    edited_json,
    shard,
    write_json,
)

Make = Callable[[Folders], None]
DEEP = "[" * 200_000 + "]" * 200_000


def files_named(report: Report, subject: str) -> str:
    return " ".join(
        one.message for one in report.subjects[subject].findings if one.check in ("files", "adapter_applied")
    )


def safetensors(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def entry(shape: list[int], start: int, end: int) -> dict[str, Any]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}


TEXTS = {
    "not_json": "{'a': 1",
    "deep": DEEP,
    "deep_inside": '{"a": ' + DEEP + "}",
    "an_array": "[1, 2]",
    "a_string": '"x"',
    "null": "null",
    "empty": "",
    "a_number_of_many_digits": '{"a": ' + "9" * 10_000 + "}",
    "half_a_character": '{"a": "\\ud800"}',
    "nan": '{"eos_token_id": NaN, "r": NaN, "added_tokens": NaN}',
}
BYTES = {
    "byte_order_mark": b"\xef\xbb\xbf{}",
    "utf_16": '{"a": 1}'.encode("utf-16"),
    "zeros": bytes(1000),
}
JSON_FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "adapter_config.json")
WEIGHTS: dict[str, bytes] = {
    "zero_bytes": b"",
    "seven_bytes": b"1234567",
    "length_of_the_header_is_huge": safetensors(b"{}", length=2**63),
    "length_beyond_the_file": safetensors(b"{}", length=1000),
    "header_is_no_json": safetensors(b"{not json"),
    "header_is_an_array": safetensors(b"[]"),
    "header_is_deep": safetensors(DEEP.encode()),
    "header_is_not_utf8": safetensors(b'{"\xff": 1}'),
    "offsets_overlap": safetensors(json.dumps({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}).encode(), b"0" * 12),
    "offsets_run_backwards": safetensors(json.dumps({"a": entry([2], 8, 0)}).encode(), b"0" * 8),
    "offsets_beyond_the_file": safetensors(json.dumps({"a": entry([2**40], 0, 2**42)}).encode(), b"0" * 8),
    "a_shape_that_overflows": safetensors(json.dumps({"a": entry([2**40, 2**40], 0, 8)}).encode(), b"0" * 8),
    "a_negative_shape": safetensors(json.dumps({"a": entry([-1], 0, 4)}).encode(), b"0" * 4),
    "a_hole": safetensors(json.dumps({"a": entry([1], 0, 4)}).encode(), b"0" * 400),
    "a_matrix_without_rows": safetensors(json.dumps({"lm_head.weight": entry([0, 2**50], 0, 0)}).encode()),
    "a_matrix_without_columns": safetensors(
        json.dumps({"model.embed_tokens.weight": entry([2**50, 0], 0, 0)}).encode()
    ),
    "another_dtype": safetensors(json.dumps({"a": {**entry([1], 0, 4), "dtype": "Q3"}}).encode(), b"0" * 4),
    "text": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
@pytest.mark.parametrize("name", JSON_FILES)
@pytest.mark.timeout(20)
def test_a_hostile_json_file_is_a_finding_that_names_it(name: str, text: str, tmp_path: Path) -> None:
    folders = copy_demo(tmp_path)
    folder, subject = (folders.adapter, "adapter:json") if name.startswith("adapter") else (folders.base, "base")
    (folder / name).write_text(text, encoding="utf-8")
    report = judged(folders)
    assert report.subjects[subject].verdict is Verdict.INCONSISTENT
    if "NaN" not in text:
        assert name in files_named(report, subject)


@pytest.mark.parametrize("data", BYTES.values(), ids=BYTES.keys())
@pytest.mark.parametrize("name", JSON_FILES)
@pytest.mark.timeout(20)
def test_a_json_file_in_another_encoding_is_a_finding_that_names_it(name: str, data: bytes, tmp_path: Path) -> None:
    folders = copy_demo(tmp_path)
    folder, subject = (folders.adapter, "adapter:json") if name.startswith("adapter") else (folders.base, "base")
    (folder / name).write_bytes(data)
    assert name in files_named(judged(folders), subject)


@pytest.mark.timeout(20)
def test_a_header_of_ten_gigabytes_is_not_read(tmp_path: Path) -> None:
    folders = copy_demo(tmp_path)
    with folders.base_weights.open("wb") as file:
        file.write(struct.pack("<Q", 10 * 2**30))
        file.truncate(11 * 2**30)  # sparse: takes no room
    assert "header of 10,737,418,240 bytes" in files_named(judged(folders), "base")


@pytest.mark.timeout(20)
def test_links_to_devices_are_not_read(tmp_path: Path) -> None:
    folders = copy_demo(tmp_path)
    for name, device in (("config.json", "/dev/zero"), ("tokenizer.json", "/dev/urandom"), ("extra.json", "/dev/zero")):
        (folders.base / name).unlink(missing_ok=True)
        (folders.base / name).symlink_to(device)
    report = judged(folders)
    assert "config.json is missing" in files_named(report, "base")


CONFIGS: dict[str, dict[str, Any]] = {
    "layers_without_end": {"num_hidden_layers": 10**12},
    "layers_of_every_kind": {"layer_types": ["full_attention"] * 100_000},
    "width_without_end": {"hidden_size": 2**62},
    "width_negative": {"hidden_size": -1},
    "no_heads": {"num_attention_heads": 0},
    "heads_as_text": {"num_attention_heads": "2"},
    "positions_without_end": {"max_position_embeddings": 2**62},
    "rope_a_list": {"rope_parameters": [1]},
    "rope_deep": {"rope_parameters": {"full_attention": {"rope_type": {"a": 1}}}},
}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.timeout(20)
def test_a_config_that_asks_for_too_much_is_judged_soon(name: str, tmp_path: Path) -> None:
    folders = copy_demo(tmp_path)
    with edited_json(folders.base / "config.json") as config:
        config["text_config"].update(CONFIGS[name])
    report = judged(folders)
    is_sound = name == "positions_without_end"
    assert report.subjects["base"].verdict is (Verdict.CONSISTENT if is_sound else Verdict.INCONSISTENT)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
@pytest.mark.timeout(20)
def test_a_hostile_tokenizer_config_of_an_adapter_is_a_finding_that_names_it(text: str, tmp_path: Path) -> None:
    folders = copy_demo(tmp_path)
    copy_tokenizer(folders.base, folders.adapter)
    (folders.adapter / "tokenizer_config.json").write_text(text, encoding="utf-8")
    report = judged(folders)
    if "NaN" not in text:
        assert "tokenizer_config.json" in files_named(report, "adapter:json")


@pytest.mark.parametrize("data", WEIGHTS.values(), ids=WEIGHTS.keys())
@pytest.mark.parametrize("is_base", [True, False], ids=["base", "adapter"])
@pytest.mark.timeout(20)
def test_a_hostile_weights_file_is_a_finding_that_names_it(is_base: bool, data: bytes, tmp_path: Path) -> None:
    folders = copy_demo(tmp_path)
    path, subject = (folders.base_weights, "base") if is_base else (folders.adapter_weights, "adapter:json")
    path.write_bytes(data)
    report = judged(folders)
    assert report.subjects[subject].verdict is Verdict.INCONSISTENT
    assert path.name in files_named(report, subject) or "shape" in files_named(report, subject)


def config_values(file: str, **values: Any) -> Make:
    def make(folders: Folders) -> None:
        folder = folders.adapter if file.startswith("adapter") else folders.base
        with edited_json(folder / file) as document:
            document.update(values)

    return make


def added_id_of_an_adapter_is_true(folders: Folders) -> None:
    copy_tokenizer(folders.base, folders.adapter)
    with edited_json(folders.adapter / "tokenizer.json") as document:
        document["added_tokens"][0]["id"] = True


WRONG_TYPES: dict[str, tuple[str, Make]] = {
    "ids_as_text": ("base", config_values("generation_config.json", eos_token_id="763")),
    "ids_as_floats": ("base", config_values("generation_config.json", eos_token_id=[763.0])),
    "ids_nested": ("base", config_values("generation_config.json", eos_token_id=[[763]])),
    "ids_as_booleans": ("base", config_values("config.json", image_token_id=True)),
    "ids_huge": ("base", config_values("config.json", image_token_id=10**30)),
    "ids_negative": ("base", config_values("generation_config.json", eos_token_id=-5)),
    "text_config_a_list": ("base", config_values("config.json", text_config=[1])),
    "vocab_size_as_text": ("base", config_values("config.json", text_config={"vocab_size": "832"})),
    "model_type_a_list": ("base", config_values("config.json", model_type=["minicpmv4_6"])),
    "special_tokens_a_number": ("base", config_values("tokenizer_config.json", extra_special_tokens=7)),
    "eos_token_an_object": ("base", config_values("tokenizer_config.json", eos_token={"content": 3})),
    "template_a_number": ("base", lambda folders: (folders.base / "chat_template.jinja").write_text("{{ 1/0 }}")),
    "template_broken": ("base", lambda folders: (folders.base / "chat_template.jinja").write_text("{% if %}")),
    "added_tokens_without_ids": ("base", config_values("tokenizer.json", added_tokens=[{"content": "<x>"}])),
    "added_tokens_an_object": ("base", config_values("tokenizer.json", added_tokens={"<x>": 1})),
    "vocabulary_a_list": ("base", config_values("tokenizer.json", model={"type": "BPE", "vocab": [], "merges": []})),
    "merges_of_three": (
        "base",
        config_values("tokenizer.json", model={"vocab": {"a": 0}, "merges": [["a", "b", "c"]]}),
    ),
    "modules_to_save_a_string": ("adapter:json", config_values("adapter_config.json", modules_to_save="embed_tokens")),
    "modules_to_save_numbers": ("adapter:json", config_values("adapter_config.json", modules_to_save=[1, 2])),
    "modules_to_save_empty_name": ("adapter:json", config_values("adapter_config.json", modules_to_save=[""])),
    "indices_as_text": ("adapter:json", config_values("adapter_config.json", trainable_token_indices="all")),
    "indices_of_floats": ("adapter:json", config_values("adapter_config.json", trainable_token_indices=[1.5])),
    "indices_nested": ("adapter:json", config_values("adapter_config.json", trainable_token_indices={"a": {"b": 1}})),
    "indices_huge": ("adapter:json", config_values("adapter_config.json", trainable_token_indices=[10**30])),
    "indices_negative": ("adapter:json", config_values("adapter_config.json", trainable_token_indices=[-1])),
    "rank_as_text": ("adapter:json", config_values("adapter_config.json", r="8")),
    "rank_huge": ("adapter:json", config_values("adapter_config.json", r=10**400)),
    "rank_infinite": ("adapter:json", config_values("adapter_config.json", r=float("inf"))),
    "alpha_huge": ("adapter:json", config_values("adapter_config.json", lora_alpha=10**400)),
    "rank_pattern_a_list": ("adapter:json", config_values("adapter_config.json", rank_pattern=[8])),
    "longest_text_an_object": ("base", config_values("tokenizer_config.json", model_max_length={"a": [1]})),
    "added_id_true": ("adapter:json", added_id_of_an_adapter_is_true),
    "peft_type_a_number": ("adapter:json", config_values("adapter_config.json", peft_type=3)),
}


@pytest.mark.parametrize("name", WRONG_TYPES)
@pytest.mark.timeout(20)
def test_a_value_of_the_wrong_type_is_a_finding(name: str, tmp_path: Path) -> None:
    subject, make = WRONG_TYPES[name]
    folders = copy_demo(tmp_path)
    make(folders)
    assert judged(folders).subjects[subject].verdict is Verdict.INCONSISTENT


def index_of(weight_map: Any) -> Make:
    def make(folders: Folders) -> None:
        shard(folders.base)
        write_json(folders.base / "model.safetensors.index.json", {"weight_map": weight_map})

    return make


def only_folders(folders: Folders) -> None:
    for path in [*folders.base.iterdir(), *folders.adapter.iterdir()]:
        path.unlink()
        path.mkdir()


def weights_are_a_pipe(folders: Folders) -> None:
    for path in (folders.base_weights, folders.adapter_weights):
        path.unlink()
        os.mkfifo(path)


def links_to_nowhere(folders: Folders) -> None:
    for path in [*folders.base.iterdir(), *folders.adapter.iterdir()]:
        path.unlink()
        path.symlink_to("nowhere")


def links_in_a_circle(folders: Folders) -> None:
    for path in [*folders.base.iterdir(), *folders.adapter.iterdir()]:
        path.unlink()
        path.symlink_to(path.name)


def empty(folders: Folders) -> None:
    for path in [*folders.base.iterdir(), *folders.adapter.iterdir()]:
        path.unlink()


def not_utf8(folders: Folders) -> None:
    for path in [*folders.base.glob("*.json"), *folders.adapter.glob("*.json")]:
        path.write_bytes(path.read_bytes() + b"\xff")
    copy_tokenizer(folders.base, folders.adapter)


FOLDERS: dict[str, Make] = {
    "empty": empty,
    "every_file_a_folder": only_folders,
    "weights_are_a_pipe": weights_are_a_pipe,
    "links_to_nowhere": links_to_nowhere,
    "links_in_a_circle": links_in_a_circle,
    "not_utf8": not_utf8,
    "index_of_numbers": index_of({"a": 1, "b": None}),
    "index_a_list": index_of(["a"]),
    "index_absent": index_of(None),
    "index_outside_the_folder": index_of({"a": "../../../../etc/passwd", "b": "/etc/hostname"}),
    "index_with_a_null_byte": index_of({"a": "x\0y"}),
    "index_with_an_endless_name": index_of({"a": "x" * 5000}),
    "index_of_folders": index_of({"a": "..", "b": ".", "c": ""}),
}


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.timeout(20)
def test_a_hostile_folder_is_refused(name: str, tmp_path: Path) -> None:
    folders = copy_demo(tmp_path)
    FOLDERS[name](folders)
    report = judged(folders)
    assert report.subjects["base"].verdict is Verdict.INCONSISTENT
    assert "passwd " not in report_text(report) or "is missing" in report_text(report)


def test_files_reached_through_links_are_read(tmp_path: Path) -> None:
    folders = copy_demo(tmp_path / "real")
    linked = Folders(tmp_path / "linked" / "base", tmp_path / "linked" / "json")
    for real, link in ((folders.base, linked.base), (folders.adapter, linked.adapter)):
        link.mkdir(parents=True)
        for path in real.iterdir():
            (link / path.name).symlink_to(path)
    assert judged(linked).overall is Verdict.CONSISTENT


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unreadable for root")
def test_files_that_may_not_be_read_are_findings(tmp_path: Path) -> None:
    folders = copy_demo(tmp_path)
    for path in [*folders.base.iterdir(), *folders.adapter.iterdir()]:
        path.chmod(0)
    report = judged(folders)
    assert report.subjects["base"].verdict is Verdict.INCONSISTENT
    assert report.subjects["adapter:json"].verdict is Verdict.INCONSISTENT


def test_code_in_a_folder_is_never_run(tmp_path: Path) -> None:
    folders = copy_demo(tmp_path)
    copy_tokenizer(folders.base, folders.adapter)
    for folder in (folders.base, folders.adapter):
        (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
        with edited_json(folder / "tokenizer_config.json") as config:
            config["auto_map"] = {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}
    with edited_json(folders.base / "config.json") as config:
        config["auto_map"] = {"AutoConfig": "evil.Evil"}
    judged(folders)
    assert not (tmp_path / "ran").exists()


def test_a_template_cannot_leave_its_sandbox(tmp_path: Path) -> None:
    folders = copy_demo(tmp_path)
    attack = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
    (folders.base / "chat_template.jinja").write_text(attack)
    report = judged(folders)
    assert report.subjects["base"].verdict is Verdict.INCONSISTENT


def test_a_template_without_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.checkpoint.template.MAX_SECONDS", 0.5)
    folders = copy_demo(tmp_path)
    loops = "{% for a in range(99999) %}{% for b in range(99999) %}{% set c = b %}{% endfor %}{% endfor %}"
    (folders.base / "chat_template.jinja").write_text(loops)
    report = judged(folders)
    assert any("does not come to an end" in one.message for one in report.findings())
