"""`repair` of MiniCPM-V 2.6, 4.0 and 4.5: what its own tensors or all official files prove is corrected in the copy."""

import json
import shutil
from pathlib import Path

import pytest

from service.cli import main
from service.commands import CONSISTENT, INCONSISTENT
from service.demo import demo_root
from tests.audit.older_folders import BROKEN, SOUND, VERSIONS, copied, official
from tests.audit.older_registry import Make, config, flag, settings
from tests.builders import Folders, edited_tensors, read_json

ALONE = (
    "a_marker_is_not_special",
    "a_marker_eats_the_line_break_between_rows",
    "a_marker_is_found_between_spaces_only",
    "the_processor_names_a_marker_of_another_family",
    "the_processor_exchanges_start_and_end",
    "two_roles_share_a_marker",
    "features_stand_on_an_ordinary_word",
    "nothing_says_whether_the_last_layer_counts",
    "the_version_is_one_that_is_not_served",
    "one_mean_for_all_colours",
    "slices_are_cut_by_another_patch",
    "slices_are_smaller_than_a_patch",
    "only_one_of_two_stop_tokens",
    "config_json_ends_answers_where_turns_begin",
    "answers_end_at_the_placeholder_of_features",
    "answers_end_at_a_marker_of_pictures",
    "config_json_alone_names_a_stop_token",
    "the_model_is_said_to_have_more_features",
    "the_processor_makes_room_for_more_features",
)
WITH_ORIGIN = (
    "both_files_agree_on_another_number_of_queries",
    "a_deciding_field_is_lost",
    "the_rotary_base_is_lost",
    "the_rotary_base_is_a_default",
    "longrope_is_lost",
    "the_tower_is_not_described",
    "the_language_model_is_described_one_level_too_deep",
    "the_table_of_positions_is_of_another_size",
    "picture_settings_are_in_the_newer_file_only",
)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Folders]:
    root = tmp_path_factory.mktemp("official")
    for version in VERSIONS:
        (root / version).mkdir()
    return {version: official(version, root / version) for version in VERSIONS}


def changes_of(folder: Path) -> dict[str, object]:
    return {one["what"]: one["new"] for one in json.loads((folder / "repair.json").read_text())["changes"]}


@pytest.mark.parametrize("name", ALONE)
def test_a_folder_is_corrected_by_itself(name: str, sources: dict[str, Folders], tmp_path: Path) -> None:
    version, make = SOUND[name] if name in SOUND else (BROKEN[name].version, BROKEN[name].make)
    folders = copied(sources[version], tmp_path)
    make(folders)
    assert main(["repair", str(folders.base), "--output", str(tmp_path / "out")]) == CONSISTENT
    assert main(["audit", str(tmp_path / "out"), "--policy", "strict"]) == CONSISTENT
    assert changes_of(tmp_path / "out")


@pytest.mark.parametrize("name", WITH_ORIGIN)
def test_a_folder_is_corrected_from_its_origin(name: str, sources: dict[str, Folders], tmp_path: Path) -> None:
    folders = copied(sources[BROKEN[name].version], tmp_path)
    BROKEN[name].make(folders)
    origin = str(sources[BROKEN[name].version].base)
    assert main(["repair", str(folders.base), "--base", origin, "--output", str(tmp_path / "out")]) == CONSISTENT
    assert main(["audit", str(tmp_path / "out"), "--policy", "strict"]) == CONSISTENT


@pytest.mark.parametrize("version", VERSIONS)
def test_a_sound_folder_stays_as_it_is(version: str, sources: dict[str, Folders], tmp_path: Path) -> None:
    folder = sources[version].base
    assert main(["repair", str(folder), "--output", str(tmp_path / "out")]) == CONSISTENT
    assert changes_of(tmp_path / "out") == {}
    for path in folder.iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes(), path.name


def test_queries_that_lost_rows_are_not_made_the_measure_of_the_files(
    sources: dict[str, Folders], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = copied(sources["4.5"], tmp_path)
    BROKEN["queries_that_lost_rows"].make(folders)
    for more in ([], ["--base", str(sources["4.5"].base)]):
        output = tmp_path / f"out{len(more)}"
        assert main(["repair", str(folders.base), *more, "--output", str(output)]) == INCONSISTENT
        assert read_json(output / "config.json")["query_num"] == 16
        assert read_json(output / "preprocessor_config.json")["image_feature_size"] == 16
        assert "nothing here proves which of them is right" in capsys.readouterr().out


def drop_is_true(folders: Folders) -> None:
    with config(folders) as document:
        document["drop_vision_last_layer"] = True


def layer_is_lost_unsaid(folders: Folders) -> None:
    with config(folders) as document:
        del document["drop_vision_last_layer"]
    with edited_tensors(folders.base_weights) as tensors:
        for name in [one for one in tensors if "vpm.encoder.layers.1." in one]:
            del tensors[name]


def version_is_lost(folders: Folders) -> None:
    with config(folders) as document:
        del document["version"]


def version_is_4_5_s(folders: Folders) -> None:
    with config(folders) as document:
        document["version"] = 4.5


def version_is_no_number_of_this_world(folders: Folders) -> None:
    with config(folders) as document:
        document["version"] = 10**400


def patch_is_16(folders: Folders) -> None:
    with settings(folders) as document:
        document["patch_size"] = 16


@pytest.mark.parametrize(
    ("make", "what", "new"),
    [
        (drop_is_true, "drop_vision_last_layer", False),
        (layer_is_lost_unsaid, "drop_vision_last_layer", True),
        (version_is_lost, "version", 2.6),
        (version_is_4_5_s, "version", 2.6),
        (version_is_no_number_of_this_world, "version", 2.6),
        (patch_is_16, "patch_size", 14),
    ],
)
def test_a_setting_is_read_off_the_tensors(
    make: Make, what: str, new: object, sources: dict[str, Folders], tmp_path: Path
) -> None:
    folders = copied(sources["2.6"], tmp_path)
    make(folders)
    assert main(["repair", str(folders.base), "--output", str(tmp_path / "out")]) == CONSISTENT
    assert changes_of(tmp_path / "out") == {what: new}


@pytest.mark.parametrize("with_origin", [False, True])
def test_no_id_is_read_off_the_tokenizer_of_another_base(with_origin: bool, tmp_path: Path) -> None:
    """Its `<|im_end|>` has the id of the base's `<|im_start|>`."""
    origin, foreign = demo_root() / "minicpmv4_5" / "base", demo_root() / "base"
    shutil.copytree(origin, tmp_path / "mixed")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(foreign / name, tmp_path / "mixed" / name)
    more = ["--base", str(origin)] if with_origin else []
    status = main(["repair", str(tmp_path / "mixed"), *more, "--output", str(tmp_path / "out")])
    assert status == (CONSISTENT if with_origin else INCONSISTENT)
    assert set(changes_of(tmp_path / "out")) == ({"the whole file"} if with_origin else set())
    for name in ("config.json", "generation_config.json", *(("tokenizer.json",) if with_origin else ())):
        assert (tmp_path / "out" / name).read_bytes() == (origin / name).read_bytes()


@pytest.mark.parametrize("name", ["it_is_a_2_5", "it_is_a_minicpm_o", "nothing_tells_a_4_0_from_a_2_5"])
def test_what_is_not_served_stays_as_it_is(name: str, sources: dict[str, Folders], tmp_path: Path) -> None:
    folders = copied(sources[BROKEN[name].version], tmp_path)
    BROKEN[name].make(folders)
    origin = str(sources["4.5"].base)
    assert main(["repair", str(folders.base), "--base", origin, "--output", str(tmp_path / "out")]) == INCONSISTENT
    assert changes_of(tmp_path / "out") == {}


def test_a_2_5_is_not_made_a_4_0(sources: dict[str, Folders], tmp_path: Path) -> None:
    folders = copied(sources["4.0"], tmp_path)
    with config(folders) as document:
        del document["version"]
        document["rope_scaling"] = None
    assert main(["repair", str(folders.base), "--output", str(tmp_path / "out")]) == INCONSISTENT
    assert "version" not in read_json(tmp_path / "out" / "config.json")


def test_what_no_file_proves_is_left(sources: dict[str, Folders], tmp_path: Path) -> None:
    folders = copied(sources["2.6"], tmp_path)
    with edited_tensors(folders.base_weights) as tensors:
        tensors["resampler.proj"].zero_()
    flag(folders, "<slice>", lstrip=True)
    assert main(["repair", str(folders.base), "--output", str(tmp_path / "out")]) == INCONSISTENT
    assert changes_of(tmp_path / "out") == {"lstrip of <slice>": False}


def test_modules_that_lost_their_place_in_the_config_are_listed_again(
    sources: dict[str, Folders], tmp_path: Path
) -> None:
    folders = copied(sources["2.6"], tmp_path)
    path = folders.adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"modules_to_save": None}))
    arguments = ["repair", str(folders.adapter), "--base", str(folders.base), "--output", str(tmp_path / "out")]
    assert main(arguments) == CONSISTENT
    written = read_json(tmp_path / "out" / "adapter_config.json")
    assert written["modules_to_save"] == ["llm.model.embed_tokens", "resampler", "vpm"]
