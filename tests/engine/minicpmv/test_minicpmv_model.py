"""The container behaves like a native model of transformers: Auto classes, PEFT, generation, saving, strict loading."""

import json
import shutil
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from golden_vectors import CASES, GOLDEN, VERSIONS, generated, inputs, stop_ids, vectors
from safetensors.torch import load_file, save_file
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
)
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from service.engine.families.family import LoadOptions
from service.engine.families.minicpmv.loading import load_minicpmv, tensor_names
from service.engine.families.minicpmv.modeling import MiniCPMV, register

CPU = torch.device("cpu")


def options(dtype: torch.dtype = torch.float32, attention: str | None = None) -> LoadOptions:
    return LoadOptions(CPU, dtype, attention, is_code_trusted=False)


def loaded(version: str) -> Any:
    return load_minicpmv(GOLDEN / version / "checkpoint", options())[0]


def case_of(version: str, name: str = "two_images") -> dict[str, Any]:
    of = version if (version, name) in CASES else "2.6"
    return inputs(vectors(of, f"case_{name}"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    copy = tmp_path / "model"
    shutil.copytree(GOLDEN / "2.6" / "checkpoint", copy)
    return copy


def edit_tensors(folder: Path, **changes: Any) -> None:
    tensors = load_file(folder / "model.safetensors")
    for name, value in changes.items():
        key = name.replace("__", ".")
        if value is None:
            del tensors[key]
        else:
            tensors[key] = value
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def edit_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    config = {name: value for name, value in (config | changes).items() if value is not ...}
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("auto", [AutoModel, AutoModelForCausalLM, AutoModelForImageTextToText])
def test_transformers_auto_classes_know_the_model_and_run_no_remote_code(auto: Any) -> None:
    register()
    register()
    checkpoint = GOLDEN / "4.5" / "checkpoint"  # its auto_map names modules that are not there
    assert AutoConfig.from_pretrained(checkpoint).model_type == "minicpmv"
    model = auto.from_pretrained(checkpoint, dtype=torch.float32)
    assert type(model) is MiniCPMV
    assert model.generation_config.eos_token_id == 245


@pytest.mark.parametrize("version", VERSIONS)
def test_embeddings_head_and_decoder_are_the_language_models(version: str) -> None:
    model = loaded(version)
    assert model.get_input_embeddings() is model.llm.model.embed_tokens
    assert model.get_output_embeddings() is model.llm.lm_head
    assert model.get_decoder() is model.llm.model
    assert model.get_encoder("image") is model.vpm
    model.resize_token_embeddings(300)
    assert model.llm.model.embed_tokens.weight.shape == model.llm.lm_head.weight.shape == (300, 128)
    assert model.config.to_dict()["vocab_size"] == 300
    assert model(input_ids=torch.tensor([[299]])).logits.shape == (1, 1, 300)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_saved_folder_is_in_the_official_layout_again(version: str, tmp_path: Path) -> None:
    model = loaded(version)
    model.save_pretrained(tmp_path)
    official = GOLDEN / version / "checkpoint"
    assert tensor_names(tmp_path) == tensor_names(official)
    written = json.loads((tmp_path / "config.json").read_text())
    given = json.loads((official / "config.json").read_text())
    assert all(written[name] == given[name] for name in ("architectures", "auto_map", "version", "vision_config"))
    tensors = case_of(version)
    with torch.inference_mode():
        again = load_minicpmv(tmp_path, options())[0](**tensors).logits
        assert torch.equal(again, model(**tensors).logits)


@pytest.mark.parametrize("version", VERSIONS)
def test_beams_and_several_answers_share_the_pictures_of_their_prompt(version: str) -> None:
    model = loaded(version)
    tensors, _ = generated(version)
    keywords = {"eos_token_id": stop_ids(version), "pad_token_id": 0, "max_new_tokens": 6, "do_sample": False}
    calls: list[int] = []
    hook = model.vpm.register_forward_hook(lambda *_: calls.append(1))
    with torch.inference_mode():
        together = model.generate(**tensors, num_beams=3, num_return_sequences=2, **keywords)
        alone = model.generate(**case_of(version), num_beams=3, num_return_sequences=2, **keywords)
    hook.remove()
    assert len(calls) == 2
    length = tensors["input_ids"].shape[1]
    if version != "4.0":  # its own prompt of this name was not kept
        assert together[4:, length:].tolist() == alone[:, length:].tolist()
    assert len(together) == 6


@pytest.mark.parametrize("version", VERSIONS)
def test_embeddings_with_their_pictures_generate_what_ids_and_pictures_do(version: str) -> None:
    model, tensors = loaded(version), case_of(version, "one_image")
    keywords = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    with torch.inference_mode():
        wanted = model.generate(**tensors, **keywords)
        features = model.get_image_features(tensors["pixel_values"], tensors["target_sizes"]).pooler_output
        embeds = model.embed(tensors["input_ids"], features, tensors["image_bound"])
        found = model.generate(inputs_embeds=embeds, attention_mask=tensors["attention_mask"], **keywords)
    assert found.tolist() == wanted[:, tensors["input_ids"].shape[1] :].tolist()


@pytest.mark.parametrize("version", VERSIONS)
def test_slices_are_computed_alike_alone_and_together(version: str) -> None:
    model, tensors = loaded(version), case_of(version, "sliced_image")
    sizes = [int(height * width) * 14 for height, width in tensors["target_sizes"].tolist()]
    with torch.inference_mode():
        together = model.get_image_features(tensors["pixel_values"], tensors["target_sizes"]).pooler_output
        pieces = tensors["pixel_values"].split(sizes, dim=3)
        for index, piece in enumerate(pieces):
            alone = model.get_image_features(piece, tensors["target_sizes"][index : index + 1]).pooler_output[0]
            assert torch.allclose(alone, together[index], rtol=0, atol=1e-5)
        model.vpm.together = 2
        in_twos = model.get_image_features(tensors["pixel_values"], tensors["target_sizes"]).pooler_output
    assert all(torch.allclose(one, other, rtol=0, atol=1e-5) for one, other in zip(in_twos, together, strict=True))


def test_packs_of_other_sizes_beside_them_change_nothing() -> None:
    """Keys are laid one frame after another with their mask, whatever is padded; the official path of
    `batch_3d_resampler` false mixes both up.
    """
    model = loaded("4.5")
    pack, still = case_of("4.5", "video_pack3_2"), case_of("4.5", "two_images")
    pixels = torch.cat([still["pixel_values"], pack["pixel_values"]], dim=3)
    sizes = torch.cat([still["target_sizes"], pack["target_sizes"]])
    groups = [[-1]] * len(still["target_sizes"]) + pack["temporal_ids"]
    with torch.inference_mode():
        mixed = model.get_image_features(pixels, sizes, groups).pooler_output
        ours = model.get_image_features(still["pixel_values"], still["target_sizes"]).pooler_output
        theirs = model.get_image_features(pack["pixel_values"], pack["target_sizes"], pack["temporal_ids"])
    wanted = [*ours, *theirs.pooler_output]
    assert all(torch.allclose(one, other, rtol=0, atol=1e-5) for one, other in zip(mixed, wanted, strict=True))


def test_frames_of_other_sizes_in_one_pack_are_all_seen() -> None:
    model, still = loaded("4.5"), case_of("4.5", "two_images")
    with torch.inference_mode():
        one = model.get_image_features(still["pixel_values"], still["target_sizes"], [[0, 1, 2, 3]]).pooler_output
        other = model.get_image_features(still["pixel_values"], still["target_sizes"], [[0, 1, 2, 9]]).pooler_output
        pixels = still["pixel_values"].clone()
        pixels[..., -14:] += 1  # the last patch of the last frame
        third = model.get_image_features(pixels, still["target_sizes"], [[0, 1, 2, 3]]).pooler_output
    assert len(one) == 1
    assert not torch.allclose(one[0], other[0], atol=1e-4)
    assert not torch.allclose(one[0], third[0], atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("version", VERSIONS)
def test_half_precision_computes_nearly_the_same(version: str, attention: str, dtype: torch.dtype) -> None:
    model, _ = load_minicpmv(GOLDEN / version / "checkpoint", options(dtype, attention))
    case = vectors(version, "case_sliced_image")
    with torch.inference_mode():
        logits = model(**inputs(case)).logits
    assert logits.dtype is dtype
    wanted = torch.from_numpy(case["out.logits"])
    limit = 0.15 if dtype is torch.bfloat16 else 0.02
    assert (logits.float() - wanted).abs().max() < limit * wanted.abs().max()


@pytest.mark.parametrize("version", VERSIONS)
def test_an_adapter_made_here_has_the_official_names_and_comes_back(version: str, tmp_path: Path) -> None:
    model = loaded(version)
    config = peft.LoraConfig(
        r=2,
        target_modules=r"llm\..*layers\.\d+\.self_attn\.(q_proj|k_proj|v_proj|o_proj)",
        modules_to_save=["embed_tokens", "resampler", "vpm"],
        init_lora_weights=False,
    )
    tensors = case_of(version)
    with torch.inference_mode():
        before = model(**tensors).logits
    adapted = peft.get_peft_model(model, config).eval()
    with torch.no_grad():
        for name, one in adapted.named_parameters():
            if "modules_to_save" in name:
                one.mul_(1.1)
    with torch.inference_mode():
        wanted = adapted(**tensors).logits
        answer = adapted.generate(**tensors, max_new_tokens=3, do_sample=False)
    adapted.save_pretrained(tmp_path)
    names = {name.removeprefix("base_model.model.") for name in load_file(tmp_path / "adapter_model.safetensors")}
    assert {"llm.model.embed_tokens.weight", "resampler.query", "vpm.post_layernorm.bias"} <= names
    assert {name for name in names if "lora_" not in name} <= set(tensor_names(GOLDEN / version / "checkpoint"))
    again = peft.PeftModel.from_pretrained(loaded(version), tmp_path).eval()
    with torch.inference_mode():
        assert torch.allclose(again(**tensors).logits, wanted, rtol=0, atol=1e-4)
        merged = again.merge_and_unload()
        assert torch.allclose(merged(**tensors).logits, wanted, rtol=0, atol=1e-4)
    assert not torch.allclose(before, wanted, atol=1e-2)
    assert answer.shape[1] > tensors["input_ids"].shape[1]


def test_gradients_reach_every_part() -> None:
    model, tensors = loaded("4.5"), case_of("4.5")
    loss = model(**tensors, labels=tensors["input_ids"]).loss
    loss.backward()
    assert all(one.grad is not None and one.grad.isfinite().all() for one in model.parameters())


def test_bounds_and_groups_that_contradict_the_features_are_refused() -> None:
    model, tensors = loaded("2.6"), case_of("2.6")
    cut = tensors["input_ids"][:, :-60]
    with pytest.raises(ValueError, match="cut off within a picture"):
        model(**tensors | {"input_ids": cut, "attention_mask": None})
    with pytest.raises(ValueError, match="image_bound has 3 blocks of 1 conversations, for 4 features"):
        model(**tensors | {"image_bound": tensors["image_bound"][:3]})
    with pytest.raises(ValueError, match="needs input_ids, target_sizes and image_bound"):
        model(**tensors | {"image_bound": None})
    with pytest.raises(ValueError, match=r"need \(1, 3, 14, 910\)"):
        model(**tensors | {"target_sizes": tensors["target_sizes"][:3]})
    with pytest.raises(ValueError, match=r"2\.6 knows no packs"):
        model(**tensors, temporal_ids=[[0, 1, 2, 3]])
    with pytest.raises(ValueError, match="hold 3 slices, there are 4"):
        loaded("4.5")(**case_of("4.5"), temporal_ids=[[0, 1], [2]])


def test_places_are_those_of_the_bounds_whatever_ids_are_there() -> None:
    model, tensors = loaded("2.6"), case_of("2.6")
    other = tensors["input_ids"].clone()
    for start, end in tensors["image_bound"].tolist():
        other[:, start:end] = 7
    with torch.inference_mode():
        wanted = model(**tensors).logits
        assert torch.equal(model(**tensors | {"input_ids": other}).logits, wanted)


def test_missing_unknown_and_misshapen_tensors_are_refused_with_their_numbers(folder: Path) -> None:
    edit_tensors(
        folder,
        llm__model__norm__weight=None,
        llm__model__norm__bias=torch.zeros(128),
        resampler__query=torch.zeros(8, 128),
    )
    with pytest.raises(ValueError) as failure:
        load_minicpmv(folder, options())
    message = str(failure.value)
    total = len(tensor_names(GOLDEN / "2.6" / "checkpoint"))
    assert f"needs {total} tensors by its config.json, and {total - 1} of them are there" in message
    assert "1 missing: llm.model.norm.weight" in message
    assert "1 unknown: llm.model.norm.bias" in message
    assert "resampler.query has (8, 128) for (16, 128)" in message


def test_a_wrong_version_is_refused_by_the_tensors(folder: Path) -> None:
    edit_config(folder, version=4.5, head_dim=32)
    with pytest.raises(ValueError, match=r"missing: .*k_norm.*unknown: .*k_proj\.bias"):
        load_minicpmv(folder, options())


def test_tensors_for_hearing_and_speaking_are_left_out_and_said_to_be(folder: Path) -> None:
    more = {"apm__conv1__weight": torch.zeros(2), "audio_projection_layer__a": torch.zeros(2), "tts__x": torch.ones(1)}
    edit_tensors(folder, **more)
    with pytest.warns(UserWarning, match="3 of .* tensors are for hearing and speaking"):
        _, info = load_minicpmv(folder, options())
    assert not info["unexpected_keys"]


def test_without_the_field_the_tensors_say_whether_the_towers_last_layer_is_there(folder: Path) -> None:
    edit_config(folder, drop_vision_last_layer=...)
    model, _ = load_minicpmv(folder, options())
    assert len(model.vpm.encoder.layers) == 3
    assert model.config.drop_vision_last_layer is False
    last = [name for name in tensor_names(folder) if name.startswith("vpm.encoder.layers.2.")]
    edit_tensors(folder, **{name.replace(".", "__"): None for name in last})
    model, _ = load_minicpmv(folder, options())
    assert len(model.vpm.encoder.layers) == 2
    assert model.config.drop_vision_last_layer is True
    edit_config(folder, drop_vision_last_layer=False)
    with pytest.raises(ValueError, match="drop_vision_last_layer says whether"):
        load_minicpmv(folder, options())


def test_an_index_beside_one_whole_file_is_not_asked(folder: Path) -> None:
    names = tensor_names(folder)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"llm.x": "model.safetensors"}}))
    edit_config(folder, drop_vision_last_layer=...)
    assert tensor_names(folder) == names
    assert len(load_minicpmv(folder, options())[0].vpm.encoder.layers) == 3


@pytest.mark.parametrize("text", ["{}", "[]", '{"weight_map": null}'])
def test_an_index_without_tensors_is_named(folder: Path, text: str) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ValueError, match=r"model\.safetensors\.index\.json has no weight_map"):
        load_minicpmv(folder, options())


def test_flash_attention_gets_the_mask_of_two_dimensions_that_it_takes() -> None:
    """Stands for its kernels, which need a GPU: what arrives is what they cut rows by."""
    shapes: list[tuple[int, ...]] = []

    def attend(module: Any, query: Any, key: Any, value: Any, mask: Any, **more: Any) -> tuple[Any, None]:
        shapes.append(() if mask is None else tuple(mask.shape))
        bias = None if mask is None else mask[:, None, None].bool()
        found = torch.nn.functional.scaled_dot_product_attention(query, key, value, bias, scale=more["scaling"])
        return found.transpose(1, 2), None

    AttentionInterface.register("cut_rows", attend)
    AttentionMaskInterface.register("cut_rows", ALL_MASK_ATTENTION_FUNCTIONS["flash_attention_2"])
    model, tensors = loaded("4.5"), case_of("4.5")
    with torch.inference_mode():
        wanted = model.get_image_features(tensors["pixel_values"], tensors["target_sizes"]).pooler_output
        model.vpm.set_attn_implementation("cut_rows")
        found = model.get_image_features(tensors["pixel_values"], tensors["target_sizes"]).pooler_output
    assert set(shapes) == {(4, 24)}
    assert all(torch.allclose(one, other, rtol=0, atol=1e-5) for one, other in zip(found, wanted, strict=True))


def test_the_private_interfaces_of_transformers_that_are_overridden_exist() -> None:
    from transformers import GenerationMixin, PreTrainedModel

    assert callable(GenerationMixin._expand_inputs_for_generation)
    assert callable(PreTrainedModel._init_weights)
