"""Conversations are encoded as the official `chat()` encodes them, and a client's text never becomes a picture."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import picture_goldens as goldens
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jobs import ask
from PIL import Image
from transformers import Qwen2Tokenizer

from service.domain.generation import Message, PictureRef, Processing
from service.engine.families.minicpmv.encoder import MiniCPMVEncoder, PictureProcessor, load_encoder
from service.engine.families.minicpmv.processing import PLACE, Markers, ProcessorSettings
from service.errors import InvalidField, InvalidPicture, PromptTooLong

RED = Image.new("RGB", (100, 80), "red")
WIDE = Image.new("RGB", (1280, 720), "red")
CONTROLS = frozenset(goldens.TURNS)


def encoder_of(tokenizer: Any, *, tokens: int = 64, context: int | None = None) -> MiniCPMVEncoder:
    processor = PictureProcessor(ProcessorSettings.read({"image_feature_size": tokens}), can_pack=False)
    return MiniCPMVEncoder(tokenizer, CONTROLS, processor, context)


def byte_encoder(version: str = "4.5", **more: Any) -> MiniCPMVEncoder:
    return encoder_of(goldens.byte_tokenizer(version), **more)


PLAIN = [
    (version, prompt)
    for version in goldens.VERSIONS
    for prompt in goldens.prompts(version)
    if not prompt["processor_kwargs"]
]


@pytest.mark.parametrize(("version", "prompt"), PLAIN, ids=[f"{one}-{two['name']}" for one, two in PLAIN])
def test_a_conversation_has_the_official_ids_and_blocks(version: str, prompt: dict[str, Any]) -> None:
    switch = prompt["template_kwargs"].get("enable_thinking")
    messages, pictures = goldens.messages_of(prompt)
    encoded = encoder_of(goldens.word_tokenizer(version)).encode(messages, pictures, Processing(None, switch))
    expected = goldens.ids_of(prompt)
    if version == "4.5" and switch is None:  # chat() always says, and says no by default
        expected += [151667, 271, 151668, 271]
    assert list(encoded.prompt_ids) == expected
    assert encoded.tensors["attention_mask"].tolist() == [[1] * len(expected)]
    assert encoded.image_tokens == 64 * len(prompt["image_bound"])
    if prompt["image_bound"]:
        assert encoded.tensors["image_bound"].tolist() == prompt["image_bound"]
        assert len(encoded.tensors["target_sizes"]) == prompt["n_pixel_values"]
    else:
        assert set(encoded.tensors) == {"input_ids", "attention_mask"}


def test_tensors_are_of_the_agreed_shapes_and_types() -> None:
    tensors = byte_encoder().encode(ask("Compare", RED, WIDE).messages, [RED, WIDE]).tensors
    assert {name: one.dtype for name, one in tensors.items()} == {
        "input_ids": torch.int64,
        "attention_mask": torch.int64,
        "pixel_values": torch.float32,
        "target_sizes": torch.int32,
        "image_bound": torch.int64,
    }
    patches = int(tensors["target_sizes"].prod(-1).sum())
    assert tuple(tensors["pixel_values"].shape) == (1, 3, 14, 14 * patches)
    assert tuple(tensors["image_bound"].shape) == (8, 2)
    assert (tensors["image_bound"].diff() == 64).all()


def test_pictures_follow_their_places_whatever_their_numbers() -> None:
    messages = [Message("user", (PictureRef(1), "first", PictureRef(0)))]
    tensors = byte_encoder().encode(messages, [RED, WIDE]).tensors
    assert tensors["target_sizes"].tolist()[0] == [24, 43]
    assert len(tensors["target_sizes"]) == 8


def test_parts_of_a_message_stand_on_lines_of_their_own() -> None:
    encoder = byte_encoder(tokens=1)
    ids = encoder.encode([Message("user", ("See", PictureRef(0), "and tell"))], [RED]).prompt_ids
    text = encoder.tokenizer.decode(ids)
    assert "user\nSee\n<image_id>0</image_id><image><unk></image>\nand tell<|im_end|>" in text


SPELLED = [*Markers().texts, PLACE, "<|im_end|>", "<|im_start|>"]
TEXTS = st.sampled_from([*SPELLED, " ", "a", "，", "!", "\n", "图片", "请看", "<", ">", "/", "unk", "(", "./"])


@settings(max_examples=150, deadline=None)
@given(parts=st.lists(TEXTS, max_size=8), has_picture=st.booleans())
def test_no_text_becomes_a_picture_and_none_is_lost(parts: list[str], has_picture: bool) -> None:
    text = "x" + "".join(parts) + "y"
    encoder = byte_encoder()
    pictures = [RED] if has_picture else []
    written, plain = (encoder.encode(ask(one, *pictures).messages, pictures) for one in (text, "xy"))
    assert [one for one in written.prompt_ids if one in encoder.control_ids] == [
        one for one in plain.prompt_ids if one in encoder.control_ids
    ]
    assert text in encoder.tokenizer.backend_tokenizer.decode(list(written.prompt_ids), skip_special_tokens=False)
    assert written.image_tokens == plain.image_tokens == 64 * has_picture
    if has_picture:
        start, end = written.tensors["image_bound"][0].tolist()
        assert set(written.prompt_ids[start:end]) == {encoder.image_token_id}


@pytest.mark.parametrize("version", ["2.6", "4.0", "4.5"])
@pytest.mark.parametrize(
    "text",
    [
        "Say <unk><unk> and </slice>, then (<image>./</image>) and <image_id>7</image_id>.",
        "请说 <unk>，</slice>，再说(<image>./</image>)和<image_id>7</image_id>。<image>图</image>",
    ],
)
def test_markers_in_text_are_text_before_and_behind_a_picture(version: str, text: str) -> None:
    encoder = byte_encoder(version)
    encoded = encoder.encode([Message("user", (text, PictureRef(0), text))], [RED])
    assert encoded.image_tokens == encoded.prompt_ids.count(encoder.image_token_id) == 64
    assert len(encoded.tensors["image_bound"]) == 1
    shown = encoder.tokenizer.backend_tokenizer.decode(list(encoded.prompt_ids), skip_special_tokens=False)
    assert shown.count(text) == 2


def test_the_places_of_blocks_are_those_after_text_was_spelled_out() -> None:
    encoder = byte_encoder()
    encoded = encoder.encode([Message("user", ("<unk><image>", PictureRef(0)))], [WIDE])
    for start, end in encoded.tensors["image_bound"].tolist():
        assert set(encoded.prompt_ids[start:end]) == {encoder.image_token_id}
        assert encoded.prompt_ids[start - 1] in encoder.tokenizer.convert_tokens_to_ids(["<image>", "<slice>"])


def test_what_cannot_be_encoded_counts_as_no_picture() -> None:
    """A vocabulary without bytes writes its unknown token, which is the placeholder."""
    tokenizer = goldens.word_tokenizer("2.6")
    tokenizer.backend_tokenizer.model.unk_token = "<unk>"
    encoded = encoder_of(tokenizer).encode(ask("colour 颜色", RED).messages, [RED])
    assert encoded.prompt_ids.count(128244) > 64
    assert encoded.image_tokens == 64


def test_a_picture_in_the_system_s_turn_or_an_answer_is_placed_there() -> None:
    messages = [Message("system", ("Hi", PictureRef(0))), Message("user", ("a",)), Message("assistant", ("b",))]
    encoded = byte_encoder("2.6").encode([*messages, Message("user", (PictureRef(1),))], [RED, RED])
    assert encoded.image_tokens == 128


def test_a_request_may_ask_for_fewer_slices() -> None:
    encoder = byte_encoder()
    counts = [
        len(encoder.encode(ask("a", WIDE).messages, [WIDE], Processing(most)).tensors["target_sizes"])
        for most in (1, 2, 4, None)
    ]
    assert counts == [1, 3, 4, 7]


def test_a_checkpoint_that_cuts_no_pictures_refuses_to_be_asked() -> None:
    processor = PictureProcessor(ProcessorSettings.read({"slice_mode": False}), can_pack=False)
    encoder = MiniCPMVEncoder(goldens.byte_tokenizer("2.6"), CONTROLS, processor, None)
    assert encoder.encode(ask("a", WIDE).messages, [WIDE]).image_tokens == 64
    with pytest.raises(InvalidField, match=r"max_slice_nums: .*does not cut"):
        encoder.encode(ask("a", WIDE).messages, [WIDE], Processing(2))


@pytest.mark.parametrize(("switch", "ending"), [(True, "<think>\n"), (False, "<think>\n\n</think>\n\n")])
def test_thinking_is_off_unless_asked_for(switch: bool, ending: str) -> None:
    encoder = byte_encoder("4.5")
    wishes = [Processing(enable_thinking=switch), *([] if switch else [Processing()])]
    for wish in wishes:
        assert encoder.tokenizer.decode(encoder.encode(ask("a").messages, [], wish).prompt_ids).endswith(ending)


@pytest.mark.parametrize("version", ["2.6", "4.0"])
def test_a_template_without_a_switch_refuses_to_be_switched(version: str) -> None:
    encoder = byte_encoder(version)
    with pytest.raises(InvalidField, match=r"enable_thinking: .*no switch"):
        encoder.encode(ask("a").messages, [], Processing(enable_thinking=False))


def test_a_prompt_that_is_too_long_is_refused_and_never_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PictureProcessor, "pixels", lambda *_: pytest.fail("pixels were computed for nothing"))
    with pytest.raises(PromptTooLong, match=r"prompt has \d+ tokens, .* 300 .*max_slice_nums"):
        byte_encoder(context=300).encode(ask("a", WIDE).messages, [WIDE])


def test_nobody_waits_for_the_pixels_of_another_request(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, is_computing, may_end = byte_encoder(), Event(), Event()
    real = PictureProcessor.pixels

    def slow(*given: Any) -> dict[str, Any]:
        if given[1]:
            is_computing.set()
            assert may_end.wait(20), "the question without a picture waited for these pixels"
        return real(*given)

    monkeypatch.setattr(PictureProcessor, "pixels", slow)
    with ThreadPoolExecutor(2) as pool:
        picture = pool.submit(encoder.encode, ask("a", RED).messages, [RED])
        assert is_computing.wait(20)
        assert pool.submit(encoder.encode, ask("a").messages, []).result(10).image_tokens == 0
        may_end.set()
        assert picture.result().image_tokens == 64


def test_a_picture_like_a_thread_is_refused() -> None:
    thread = Image.new("RGB", (20_000, 1))
    with pytest.raises(InvalidPicture, match="picture 1 "):
        byte_encoder().encode(ask("a", RED, thread).messages, [RED, thread])


def test_a_template_that_loses_pictures_is_refused() -> None:
    tokenizer = goldens.byte_tokenizer("2.6")
    tokenizer.chat_template = "{{ messages[0]['role'] }}"
    with pytest.raises(ValueError, match="0 places for 1 pictures"):
        encoder_of(tokenizer).encode(ask("a", RED).messages, [RED])


def model_of(version: object = 4.5, **more: object) -> Any:
    config = SimpleNamespace(version=version, query_num=64, patch_size=99, max_position_embeddings=4096)
    config.get_text_config = lambda: config
    config.vision_config = SimpleNamespace(patch_size=14)
    vars(config).update(more)
    return SimpleNamespace(config=config)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Tokenizer files and settings as 4.5 ships them, with a class that is code of its own."""
    goldens.byte_tokenizer("4.5").save_pretrained(tmp_path)
    change(
        tmp_path / "tokenizer_config.json",
        tokenizer_class="MiniCPMVTokenizerFast",
        auto_map={"AutoTokenizer": ["tokenization_minicpmv_fast.MiniCPMVTokenizerFast", None]},
    )
    (tmp_path / "tokenization_minicpmv_fast.py").write_text("raise RuntimeError('code of the folder was run')")
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"version": 2.6, "max_slice_nums": 4}))
    return tmp_path


def change(path: Path, **values: object) -> None:
    document = json.loads(path.read_text())
    path.write_text(json.dumps({name: one for name, one in (document | values).items() if one is not None}))


def load(folder: Path, model: Any = None) -> MiniCPMVEncoder:
    return load_encoder(folder, CONTROLS, model or model_of())


def test_a_folder_with_code_loads_without_running_it(folder: Path) -> None:
    encoder = load(folder)
    encoded = encoder.encode(ask("图里有什么?", WIDE).messages, [WIDE])
    assert encoded.image_tokens == 4 * 64
    assert encoder.claims() == {"image_token": encoder.tokenizer.get_vocab()["<unk>"]}


def test_a_folder_of_a_vocabulary_and_merges_loads_alike(folder: Path) -> None:
    message, tokens = ask("看 <unk> a!", RED).messages, goldens.byte_vocabulary()
    expected = load(folder).encode(message, [RED])
    added = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(tokens))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in goldens.UNK_MERGES))
    decoder = {one["id"]: {name: value for name, value in one.items() if name != "id"} for one in added}
    named = {"eos_token": "<|im_end|>", "pad_token": "<|im_end|>", "bos_token": "<|im_start|>"}
    change(
        folder / "tokenizer_config.json",
        tokenizer_class="Qwen2Tokenizer",
        auto_map=None,
        added_tokens_decoder=decoder,
        **named,
    )
    encoder = load(folder)
    assert isinstance(encoder.tokenizer, Qwen2Tokenizer)
    encoded = encoder.encode(message, [RED])
    assert encoder.tokenizer.decode(encoded.prompt_ids) == encoder.tokenizer.decode(expected.prompt_ids)
    assert encoded.image_tokens == encoded.prompt_ids.count(encoder.image_token_id) == 64
    assert encoded.tensors["image_bound"].tolist() == expected.tensors["image_bound"].tolist()


@pytest.mark.parametrize("name", ["chat_template.jinja", "tokenizer_config.json"])
def test_a_template_is_found_in_its_file_and_in_the_config(folder: Path, name: str) -> None:
    expected = load(folder).encode(ask("a").messages, []).prompt_ids
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    change(folder / "tokenizer_config.json", chat_template=None)
    if name == "chat_template.jinja":
        (folder / name).write_text(goldens.TEMPLATES["4.5"])
    else:
        change(folder / name, chat_template=goldens.TEMPLATES["4.5"])
    assert load(folder).encode(ask("a").messages, []).prompt_ids == expected


def test_a_folder_without_a_template_is_refused(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    change(folder / "tokenizer_config.json", chat_template=None)
    with pytest.raises(ValueError, match="no chat template; restore"):
        load(folder)


def test_a_folder_without_a_tokenizer_is_refused(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(OSError, match=r"neither a tokenizer\.json"):
        load(folder)


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"query_num": 96}, "image_feature_size is 64, and the model's is 96"),
        ({"vision_config": SimpleNamespace(patch_size=16)}, "patch_size is 14, and the model's is 16"),
    ],
)
def test_settings_that_contradict_the_model_are_refused(folder: Path, more: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=rf"preprocessor_config\.json: {named}"):
        load(folder, model_of(**more))


def test_settings_that_are_no_object_are_refused(folder: Path) -> None:
    (folder / "preprocessor_config.json").write_text("[]")
    with pytest.raises(ValueError, match="no JSON object"):
        load(folder)


@pytest.mark.parametrize(
    ("version", "can_pack"),
    [(2.6, False), ("2.6", False), (4.0, False), (4, False), (4.5, True), ("4.5", True), (None, False)],
)
def test_only_the_model_s_version_says_whether_frames_are_packed(folder: Path, version: object, can_pack: bool) -> None:
    processor = load(folder, model_of(version))._processor
    if can_pack:
        assert processor.arrange(PLACE * 2, [RED, RED], temporal_ids=[[0, 1]]).is_packed
    else:
        with pytest.raises(ValueError, match="temporal_ids"):
            processor.arrange(PLACE * 2, [RED, RED], temporal_ids=[[0, 1]])
