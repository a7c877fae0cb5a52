"""A tuned folder against the one that it was made from: sound tuning passes, every way of losing it is found."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pairs import Pair, copy_pair, only
from safetensors.torch import load_file

from service.audit.judging import audit
from service.checkpoint.locating import locate
from service.checkpoint.pairing import pair_names
from service.checkpoint.reading import read_checkpoint
from service.domain.judgement import Severity
from tests.builders import (
    EMBEDDING,
    HEAD,
    add_token,
    edit_template,
    edited_json,
    edited_tensors,
    read_json,
    rename_tensors,
    shard,
    write_json,
)

Edit = Callable[[Pair], None]
DOWN = "down_proj.weight"


def tensors_where(*parts: str) -> Callable[[dict[str, torch.Tensor]], list[str]]:
    return lambda tensors: [name for name in tensors if all(part in name for part in parts)]


def cast(dtype: torch.dtype, *, is_origin: bool = False) -> Edit:
    def make(pair: Pair) -> None:
        with edited_tensors(pair.origin_weights if is_origin else pair.tuned_weights) as tensors:
            for name, one in tensors.items():
                tensors[name] = one.to(dtype)

    return make


def config(**values: Any) -> Edit:
    def make(pair: Pair) -> None:
        with edited_json(pair.tuned / "config.json") as document:
            document.update(values)

    return make


def text_config(**values: Any) -> Edit:
    def make(pair: Pair) -> None:
        with edited_json(pair.tuned / "config.json") as document:
            document["text_config"].update(values)

    return make


def pictures(**values: Any) -> Edit:
    def make(pair: Pair) -> None:
        with edited_json(pair.tuned / "processor_config.json") as document:
            document["image_processor"].update(values)

    return make


def resized(pair: Pair) -> None:
    add_token(pair.tuned, "<verdict>")
    generator = torch.Generator().manual_seed(0)
    with edited_tensors(pair.tuned_weights) as tensors:
        for name in (EMBEDDING, HEAD):
            rows = torch.randn(64, tensors[name].shape[1], generator=generator) * tensors[name].float().std()
            tensors[name] = torch.cat([tensors[name], rows.to(tensors[name].dtype)])
    with edited_json(pair.tuned / "config.json") as document:
        document["text_config"]["vocab_size"] += 64


def spelled_otherwise(pair: Pair) -> None:
    with edited_json(pair.tuned / "config.json") as document:
        document["torch_dtype"] = document.pop("dtype")
        for key in ("drop_vision_last_layer", "merge_kernel_size", "merger_times"):
            del document[key]
        rope = document["text_config"].pop("rope_parameters")
        document["text_config"]["rope_theta"] = rope.pop("rope_theta")
        document["text_config"]["rope_scaling"] = rope
        document |= {"transformers_version": "4.57.1", "use_cache": False, "_name_or_path": "/x"}
        document["text_config"] |= {"attention_dropout": 0.1, "max_position_embeddings": 4096}


def untied(pair: Pair) -> None:
    with edited_tensors(pair.origin_weights) as tensors:
        del tensors[HEAD]
    with edited_json(pair.origin / "config.json") as document:
        document["tie_word_embeddings"] = document["text_config"]["tie_word_embeddings"] = True


def unused_parts_dropped(pair: Pair) -> None:
    with edited_tensors(pair.origin_weights) as tensors:
        tensors["mtp.layers.0.mlp.up_proj.weight"] = torch.ones(4, 4)
        tensors["model.language_model.rotary_emb.inv_freq"] = torch.ones(8)


def every_weight_trained(pair: Pair) -> None:
    generator = torch.Generator().manual_seed(0)
    with edited_tensors(pair.tuned_weights) as tensors:
        for name, one in tensors.items():
            noise = torch.randn(one.shape, generator=generator) * one.float().std().nan_to_num() * 0.1
            tensors[name] = (one.float() + noise).to(one.dtype)


def processor_files_split(pair: Pair) -> None:
    whole = read_json(pair.tuned / "processor_config.json")
    write_json(pair.tuned / "preprocessor_config.json", whole["image_processor"])
    write_json(pair.tuned / "video_preprocessor_config.json", whole["video_processor"])
    (pair.tuned / "processor_config.json").unlink()


HARMLESS: dict[str, Edit] = {
    "as_merged": lambda pair: None,
    "in_float32": cast(torch.float32),
    "in_float16": cast(torch.float16),
    "origin_in_float32": cast(torch.float32, is_origin=True),
    "in_shards": lambda pair: shard(pair.tuned, 3),
    "names_without_the_outer_prefix": lambda pair: rename_tensors(
        pair.tuned_weights, lambda name: name.removeprefix("model.")
    ),
    "resized": resized,
    "spelled_otherwise": spelled_otherwise,
    "untied": untied,
    "unused_parts_dropped": unused_parts_dropped,
    "every_weight_trained": every_weight_trained,
    "processor_files_split": processor_files_split,
    "no_generation_config": lambda pair: (pair.tuned / "generation_config.json").unlink(),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_a_sound_tuned_folder_is_not_flagged(name: str, tmp_path: Path) -> None:
    pair = copy_pair(tmp_path)
    HARMLESS[name](pair)
    assert [(one.check, one.message) for one in pair.loud() if one.check != "trained_rows"] == []


def made_up(*parts: str) -> Edit:
    def make(pair: Pair) -> None:
        generator = torch.Generator().manual_seed(5)
        with edited_tensors(pair.tuned_weights) as tensors:
            for name in tensors_where(*parts)(tensors):
                one = tensors[name]
                tensors[name] = (torch.randn(one.shape, generator=generator) * 0.02).to(one.dtype)

    return make


def zeroed(pair: Pair) -> None:
    with edited_tensors(pair.tuned_weights) as tensors:
        tensors[tensors_where("layers.1", DOWN)(tensors)[0]].zero_()


def swapped(pair: Pair) -> None:
    with edited_tensors(pair.tuned_weights) as tensors:
        first, second = tensors_where("layers.0", DOWN)(tensors)[0], tensors_where("layers.1", DOWN)(tensors)[0]
        tensors[first], tensors[second] = tensors[second], tensors[first]


def doubled(pair: Pair) -> None:
    with edited_tensors(pair.tuned_weights) as tensors:
        tensors[tensors_where("layers.1", DOWN)(tensors)[0]] *= 2


def not_a_number(pair: Pair) -> None:
    with edited_tensors(pair.tuned_weights) as tensors:
        tensors[tensors_where("layers.1", DOWN)(tensors)[0]][3, 3] = float("nan")


def base_saved(pair: Pair) -> None:
    pair.tuned_weights.write_bytes(pair.origin_weights.read_bytes())


def base_saved_and_cast(pair: Pair) -> None:
    base_saved(pair)
    cast(torch.float32)(pair)


def tower_layers_swapped_for_the_config_s(pair: Pair) -> None:
    config(insert_layer_id=0)(pair)
    with edited_json(pair.tuned / "config.json") as document:
        document["vision_config"]["insert_layer_id"] = 0


BROKEN: dict[str, tuple[Edit, str]] = {
    "tower_made_up": (made_up("vision_tower.encoder.layers.2", "proj.weight"), "have nothing in common"),
    "merger_made_up": (made_up("model.merger", "weight"), "have nothing in common"),
    "one_matrix_made_up": (made_up("layers.2", DOWN), DOWN),
    "whole_model_made_up": (made_up("weight"), "have nothing in common"),
    "zeroed": (zeroed, "are zero"),
    "swapped": (swapped, "have nothing in common"),
    "doubled": (doubled, "multiplied"),
    "not_a_number": (not_a_number, "NaN"),
    "base_saved": (base_saved, "tuning changed nothing"),
    "base_saved_and_cast": (base_saved_and_cast, "tuning changed nothing"),
    "another_speed": (
        text_config(
            rope_parameters={
                "rope_type": "default",
                "rope_theta": 1e6,
                "partial_rotary_factor": 0.25,
                "mrope_section": [3, 3, 2],
                "mrope_interleaved": True,
            }
        ),
        "rope_theta",
    ),
    "another_activation": (text_config(hidden_act="gelu"), "hidden_act"),
    "another_place_of_the_merger": (tower_layers_swapped_for_the_config_s, "insert_layer_id"),
    "another_epsilon": (text_config(rms_norm_eps=1e-3), "rms_norm_eps"),
    "another_merging": (config(merge_kernel_size=[4, 4]), "merge_kernel_size"),
    "fewer_slices": (pictures(max_slice_nums=9), "max_slice_nums"),
    "smaller_slices": (pictures(scale_resolution=56), "scale_resolution"),
    "no_picture_numbers": (pictures(use_image_id=False), "use_image_id"),
    "no_slices": (pictures(slice_mode=False), "slice_mode"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_tuned_folder_is_found_by_this_check(name: str, tmp_path: Path) -> None:
    make, named = BROKEN[name]
    pair = copy_pair(tmp_path)
    make(pair)
    found = [one for one in pair.loud() if not (one.check == "trained_rows" and name == "whole_model_made_up")]
    check = "finite_weights" if name == "not_a_number" else "origin"
    assert any(named in message for message in only(found, check)), [one.message for one in found]


def test_another_base_of_the_same_shapes_is_not_the_origin(tmp_path: Path) -> None:
    pair = copy_pair(tmp_path)
    generator = torch.Generator().manual_seed(9)
    with edited_tensors(pair.origin_weights) as tensors:
        for name, one in tensors.items():
            if one.ndim > 1:
                tensors[name] = (torch.randn(one.shape, generator=generator) * 0.02).to(one.dtype)
    (message,) = only(pair.loud(), "origin")
    assert "nothing in common" in message


def test_a_tensor_that_the_model_needs_and_lost_is_told_once(tmp_path: Path) -> None:
    pair = copy_pair(tmp_path)
    with edited_tensors(pair.tuned_weights) as tensors:
        for name in tensors_where("model.merger.")(tensors):
            del tensors[name]
    (message,) = only(pair.loud(), "weights_complete")
    assert "model.merger." in message


def test_parts_of_a_model_that_transformers_does_not_know_must_all_be_there(tmp_path: Path) -> None:
    pair = copy_pair(tmp_path)
    for folder in (pair.origin, pair.tuned):
        with edited_json(folder / "config.json") as document:
            document |= {"model_type": "speaker", "auto_map": {"AutoModel": "modeling_speaker.Speaker"}}
        (folder / "modeling_speaker.py").write_text("")
    with edited_tensors(pair.origin_weights) as tensors:
        tensors["tts.head.weight"] = torch.ones(4, 4)
    found = [one for one in pair.loud() if one.severity is Severity.FATAL and one.check != "files"]
    (message,) = only(found, "origin")
    assert "tts.head.weight" in message


def test_an_origin_that_is_the_folder_itself_or_serves_adapters_need_not_differ(tmp_path: Path) -> None:
    pair = copy_pair(tmp_path, tuned="base")
    tuned, origin = locate(str(pair.tuned)), locate(str(pair.origin))
    with_adapter = read_checkpoint(tuned, {"a": locate(str(pair.adapter))}, origin=origin)
    for facts in (with_adapter, read_checkpoint(tuned, {}, origin=tuned)):
        assert [one.message for one in audit(facts).findings() if one.severity is not Severity.NOTE] == []


def test_rows_that_turned_are_measured_and_casts_are_not(tmp_path: Path) -> None:
    pair = copy_pair(tmp_path)
    cast(torch.float32)(pair)
    with edited_tensors(pair.tuned_weights) as tensors:
        tensors[EMBEDDING][700] = -tensors[EMBEDDING][700]
        tensors[EMBEDDING][750] = -tensors[EMBEDDING][750]
    origin = pair.facts().origin
    assert origin is not None
    assert origin.embedding_turns[750] == pytest.approx(2.0, abs=1e-3)
    assert max(turn for one, turn in origin.embedding_turns.items() if one != 750) < 1e-5
    assert EMBEDDING in origin.changed
    assert HEAD not in origin.changed
    assert origin.num_equal + len(origin.changed) == len(load_file(pair.origin_weights))


def test_a_renamed_layout_is_paired_as_a_whole_and_layers_never_with_one_another() -> None:
    old = {f"model.layers.{one}.mlp.up.weight": (4, 4) for one in range(3)} | {"lm_head.weight": (8, 4)}
    new = {f"llm.{name}": shape for name, shape in old.items()}
    assert pair_names(old, new) == {name: f"llm.{name}" for name in old}
    assert pair_names({"a.layers.1.up.weight": (4, 4)}, {"a.layers.2.up.weight": (4, 4)}) == {}
    assert pair_names({"a.up.weight": (4, 4)}, {"b.up.weight": (4, 5)}) == {}
    assert pair_names({"a.up.weight": (4, 4)}, {}) == {}


def test_a_hostile_origin_does_not_stop_the_audit(tmp_path: Path) -> None:
    pair = copy_pair(tmp_path)
    for path in pair.origin.iterdir():
        path.write_bytes(b"\xff\xfe{")
    assert all(one.subject == "base" for one in pair.loud())
    for path in pair.origin.iterdir():
        path.unlink()
    assert all(one.subject == "base" for one in pair.loud(is_merge=True))


def a_system_prompt(pair: Pair) -> None:
    path = pair.tuned / "chat_template.jinja"
    system = "{{- '<|im_start|>system\\nYou are helpful. 你很有用。<|im_end|>\\n' -}}"
    path.write_text(system + path.read_text(encoding="utf-8"), encoding="utf-8")


def a_start_token(pair: Pair) -> None:
    with edited_json(pair.tuned / "tokenizer.json") as document:
        token = document["added_tokens"][0]
        document["post_processor"]["single"].insert(0, {"SpecialToken": {"id": token["content"], "type_id": 0}})
        entry = {"id": token["content"], "ids": [token["id"]], "tokens": [token["content"]]}
        document["post_processor"]["special_tokens"] = {token["content"]: entry}


def no_empty_thought(pair: Pair) -> None:
    edit_template(pair.tuned, "{{- '<think>\\n\\n</think>\\n\\n' -}}", "")


def a_word_in_front_of_messages(pair: Pair) -> None:
    edit_template(pair.tuned, "~ render_content", "~ 'Q: ' ~ render_content")


@pytest.mark.parametrize(
    ("make", "check", "named"),
    [
        (no_empty_thought, "chat_template", "it leads to an answer with '<|im_end|>\\n<|im_start|>assistant\\n', not"),
        (a_word_in_front_of_messages, "chat_template", "otherwise than the origin's"),
        (a_start_token, "tokenizer_unchanged", "in front of a text"),
    ],
)
@pytest.mark.parametrize("tuned", ["base", "merged"])
def test_prompts_of_another_form_are_fatal_where_no_weight_was_tuned_to_them(
    make: Edit, check: str, named: str, tuned: str, tmp_path: Path
) -> None:
    pair = copy_pair(tmp_path, tuned)
    make(pair)
    found = [one for one in pair.loud() if one.check == check]
    assert [one.severity.value for one in found] == ["fatal" if tuned == "base" else "warning"]
    assert named in found[0].message


@pytest.mark.parametrize("tuned", ["base", "merged"])
def test_a_system_prompt_of_one_s_own_before_the_same_turns_is_a_warning(tuned: str, tmp_path: Path) -> None:
    pair = copy_pair(tmp_path, tuned)
    a_system_prompt(pair)
    found = [one for one in pair.loud() if one.check == "chat_template"]
    assert [one.severity.value for one in found] == ["warning"]
    assert "leads to an answer" not in found[0].message
