"""Places of pictures become the official blocks, and blocks are found again."""

from typing import Any

import picture_goldens as goldens
import pytest
from PIL import Image

from service.engine.families.minicpmv.encoder import PictureProcessor
from service.engine.families.minicpmv.processing import (
    PLACE,
    MarkerIds,
    Markers,
    ProcessorSettings,
    block_text,
    expand,
    find_blocks,
    pack,
)

PROMPTS = [(version, prompt) for version in goldens.VERSIONS for prompt in goldens.prompts(version)]
DRAWINGS = [(version, key) for version in goldens.VERSIONS for key in goldens.read(f"images_{version}.json")["images"]]
IDS = MarkerIds(starts=frozenset({1, 3}), ends=frozenset({2, 4}), unk=0)


def processor(**settings: Any) -> PictureProcessor:
    return PictureProcessor(ProcessorSettings.read(settings), can_pack=True)


@pytest.mark.parametrize(("version", "prompt"), PROMPTS, ids=[f"{one}-{two['name']}" for one, two in PROMPTS])
def test_a_prompt_has_the_official_text_ids_and_blocks(version: str, prompt: dict[str, Any]) -> None:
    _, pictures = goldens.messages_of(prompt)
    options = prompt["processor_kwargs"]
    arrangement = processor().arrange(
        prompt["prompt"],
        pictures,
        max_slice_nums=options.get("max_slice_nums"),
        is_numbered=options.get("use_image_id"),
        temporal_ids=options.get("temporal_ids"),
    )
    assert arrangement.text == goldens.with_placeholders(prompt["expanded"])
    assert len(arrangement.packs.slices) == prompt["n_pixel_values"]
    tokenizer = goldens.word_tokenizer(version)
    ids = tokenizer(arrangement.text)["input_ids"]
    assert ids == goldens.ids_of(prompt)
    if "<image>" in tokenizer.get_vocab():
        markers = MarkerIds.of(tokenizer, Markers())
        assert [list(one) for one in find_blocks(ids, markers, 64)] == prompt["image_bound"]
    assert len(arrangement.packs.times) == len(prompt["image_bound"])


@pytest.mark.parametrize(("version", "key"), DRAWINGS)
def test_a_drawing_has_the_official_block_sizes_and_times(version: str, key: str) -> None:
    expected = goldens.read(f"images_{version}.json")["images"][key]
    picture = [goldens.picture(key.partition("|")[0])]
    for numbered, name in ((None, "placeholder_default"), (False, "placeholder_noid")):
        arrangement = processor().arrange(
            PLACE, picture, max_slice_nums=expected["max_slice_nums"], is_numbered=numbered
        )
        assert arrangement.text == goldens.with_placeholders(expected[name])
    tensors = processor().pixels(picture, arrangement)
    assert tensors["target_sizes"].tolist() == expected["tgt_sizes"]
    assert tensors["pixel_values"].shape[3] == sum(shape[2] for shape in expected["shapes"])
    assert "temporal_ids" not in tensors
    if version == "4.5":
        assert [list(one) for one in arrangement.packs.times] == expected["temporal_ids"]
        assert sorted(arrangement.packs.unwritten) == expected["skip_image_idx"]


def test_frames_of_a_pack_are_packed_slice_by_slice() -> None:
    packs = pack([3, 3, 1], [[0, 5], [-1]])
    assert packs.slices == ((0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2), (2, 0))
    assert packs.times == ((0, 5), (0, 5), (0, 5), (-1,))
    assert packs.unwritten == {1}


def test_pixels_of_packed_frames_follow_the_pack_s_order() -> None:
    frames = [Image.new("RGB", (640, 480), colour) for colour in ("black", "white")]
    arrangement = processor().arrange(PLACE * 2, frames, temporal_ids=[[0, 5]])
    tensors = processor().pixels(frames, arrangement)
    assert tensors["temporal_ids"] == [[0, 5]] * 3
    assert tensors["target_sizes"].tolist() == [[28, 37]] * 2 + [[39, 26]] * 4
    lengths = [height * width * 14 for height, width in tensors["target_sizes"].tolist()]
    pieces = tensors["pixel_values"].split(lengths, dim=3)
    assert [float(one.mean()) for one in pieces] == [-1.0, 1.0] * 3


def test_times_of_a_single_frame_reach_the_model_and_those_of_stills_do_not() -> None:
    stills = [Image.new("RGB", (20, 20))] * 2
    for groups, expected in (([[-1], [7]], [[-1], [7]]), ([[-1], [-1]], None), (None, None)):
        arrangement = processor().arrange(PLACE * 2, stills, temporal_ids=groups)
        assert processor().pixels(stills, arrangement).get("temporal_ids") == expected


def test_a_number_counts_pictures_even_where_frames_share_a_block() -> None:
    frames = [Image.new("RGB", (20, 20))] * 4
    text = processor(image_feature_size=1).arrange(PLACE * 4, frames, temporal_ids=[[0, 1, 2], [-1]]).text
    assert text == "<image_id>0</image_id><image><unk></image><image_id>3</image_id><image><unk></image>"


@pytest.mark.parametrize(
    ("groups", "words"),
    [([[0, 1]], "2.* times for 3 pictures"), ([[0, 1], [], [2]], "0"), ([[0, 1, 2]], "0 to 2 .*max_slice_nums 1")],
)
def test_groups_that_do_not_fit_the_frames_are_refused(groups: list[list[int]], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        pack([1, 1, 3], groups)


@pytest.mark.parametrize("time", [-2, -1000, 0.5, 2.0, float("nan"), True, "3", None])
def test_a_time_that_is_no_tenth_of_a_second_is_refused(time: Any) -> None:
    with pytest.raises(ValueError, match=r"temporal_ids: .* is no time of a frame; write whole tenths"):
        processor().arrange(PLACE * 2, [Image.new("RGB", (9, 9))] * 2, temporal_ids=[[0, time]])


def test_a_model_that_packs_no_frames_refuses_times() -> None:
    still = PictureProcessor(ProcessorSettings(), can_pack=False)
    with pytest.raises(ValueError, match=r"only MiniCPM-V 4\.5"):
        still.arrange(PLACE, [Image.new("RGB", (9, 9))], temporal_ids=[[0]])


def test_a_setting_of_null_is_one_that_is_not_there() -> None:
    names = ("max_slice_nums", "scale_resolution", "patch_size", "image_feature_size", "norm_mean", "norm_std")
    assert ProcessorSettings.read(dict.fromkeys(names)) == ProcessorSettings.read({})


@pytest.mark.parametrize("text", ["", PLACE, PLACE * 3])
def test_places_and_pictures_must_be_of_one_number(text: str) -> None:
    with pytest.raises(ValueError, match="for 2 pictures"):
        expand(text, ["a", "b"])


def test_rows_of_slices_stand_on_lines_of_their_own() -> None:
    text = block_text((2, 3), Markers(), 1, None)
    assert text == "<image><unk></image>" + "\n".join(["<slice><unk></slice>" * 2] * 3)


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ([9, 1, 0, 0], "ends inside"),
        ([9, 1, 0, 2], "exactly 2"),
        ([1, 0, 0, 0, 2], "exactly 2"),
        ([1, 0, 9, 2], "exactly 2"),
        ([1, 0, 0, 3, 0, 0, 4], "not in pairs at token 3"),
        ([2, 1, 0, 0], "not in pairs at token 0"),
    ],
)
def test_a_block_that_is_not_whole_is_refused(ids: list[int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        find_blocks(ids, IDS, 2)


def test_placeholders_outside_blocks_are_no_pictures() -> None:
    assert find_blocks([0, 1, 0, 0, 2, 0, 3, 0, 0, 4, 0], IDS, 2) == [(2, 4), (7, 9)]


@pytest.mark.parametrize("version", ["2.6", "4.5"])
def test_markers_have_the_real_ids_of_each_version(version: str) -> None:
    known = goldens.read(f"images_{version}.json")["token_ids"]
    found = MarkerIds.of(goldens.word_tokenizer(version), Markers())
    assert found.starts == {known["im_start_id"], known["slice_start_id"]}
    assert found.ends == {known["im_end_id"], known["slice_end_id"]}
    assert found.unk == known["unk_id"]


def test_missing_markers_are_named() -> None:
    tokenizer = goldens.byte_tokenizer("2.6", without=("<slice>", "</image_id>"))
    with pytest.raises(ValueError, match=r"no <slice>, </image_id>, .*restore"):
        MarkerIds.of(tokenizer, Markers())


OFFICIAL = {
    "max_slice_nums": 9,
    "scale_resolution": 448,
    "patch_size": 14,
    "use_image_id": True,
    "image_feature_size": 64,
    "im_start": "<image>",
    "im_end": "</image>",
    "slice_start": "<slice>",
    "slice_end": "</slice>",
    "unk": "<unk>",
    "im_id_start": "<image_id>",
    "im_id_end": "</image_id>",
    "slice_mode": True,
    "norm_mean": [0.5, 0.5, 0.5],
    "norm_std": [0.5, 0.5, 0.5],
    "version": 2.6,
}


def test_the_official_settings_are_the_defaults_and_their_version_is_not_looked_at() -> None:
    assert ProcessorSettings.read(OFFICIAL) == ProcessorSettings.read({}) == ProcessorSettings()
    assert ProcessorSettings.read({**OFFICIAL, "version": "nonsense"}) == ProcessorSettings()


def test_settings_of_the_file_are_used() -> None:
    settings = ProcessorSettings.read({**OFFICIAL, "slice_mode": False, "use_image_id": False, "unk": "<pad>"})
    assert settings.slicing.max_slice_nums == 1
    assert not settings.is_numbered
    assert settings.markers.unk == "<pad>"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_slice_nums", 0),
        ("patch_size", 14.5),
        ("scale_resolution", "448"),
        ("image_feature_size", True),
        ("norm_mean", [0.5]),
        ("norm_std", [0.5, 0, 0.5]),
        ("norm_std", "half"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        ProcessorSettings.read({**OFFICIAL, name: value})
