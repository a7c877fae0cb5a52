"""Harmless differences of whole folders: other layouts, other spellings of settings, leftovers of older libraries.

Does not judge; `test_harmless.py` does.
"""

import shutil

import torch
from safetensors.torch import load_file, save_file

from tests.audit.differences_registry import harmless
from tests.builders import (
    EMBEDDING,
    HEAD,
    Folders,
    declare_tie,
    edited_json,
    edited_tensors,
    read_json,
    rename_tensors,
    shard,
    write_json,
)


@harmless()
def json_key_order_and_indent(folders: Folders) -> None:
    for path in (*folders.base.glob("*.json"), *folders.adapter.glob("*.json")):
        document = read_json(path)
        write_json(path, dict(reversed(document.items())), indent=7)


def trained_to_write(folders: Folders, rows: torch.Tensor) -> torch.Tensor:
    """Let the rows that no text reaches have one direction, as they have in a matrix that also writes tokens."""
    generator = torch.Generator().manual_seed(8)
    vocabulary = read_json(folders.base / "tokenizer.json")["model"]["vocab"]
    ids = [vocabulary[chr(one)] for one in (0xC0, 0xC1, *range(0xF5, 0x100))] + list(range(761, len(rows)))
    shape = (len(ids), rows.shape[1])
    changed = rows.clone()
    changed[ids] = (
        0.02 * torch.randn(shape[1], generator=generator) + 0.002 * torch.randn(shape, generator=generator)
    ).to(rows)
    return changed


@harmless(loaded="base")
def tied_with_two_equal_tensors(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        tensors[EMBEDDING] = trained_to_write(folders, tensors[EMBEDDING])
        tensors[HEAD] = tensors[EMBEDDING].clone()
    declare_tie(folders, is_tied=True)


@harmless()
def tied_without_a_head(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        tensors[EMBEDDING] = trained_to_write(folders, tensors[EMBEDDING])
        del tensors[HEAD]
    declare_tie(folders, is_tied=True)


@harmless()
def untied_with_two_equal_tensors(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        tensors[EMBEDDING] = trained_to_write(folders, tensors[EMBEDDING])
        tensors[HEAD] = tensors[EMBEDDING].clone()


@harmless(loaded="base")
def tie_not_declared(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        del config["tie_word_embeddings"], config["text_config"]["tie_word_embeddings"]


@harmless(loaded="base")
def weights_in_shards(folders: Folders) -> None:
    shard(folders.base, 3)


@harmless()
def an_index_left_beside_the_whole_file(folders: Folders) -> None:
    weight_map = {EMBEDDING: "model-00001-of-00009.safetensors"}
    write_json(folders.base / "model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})


@harmless(loaded="base")
def an_index_that_names_what_guesses_tokens_ahead(folders: Folders) -> None:
    shard(folders.base)
    with edited_json(folders.base / "model.safetensors.index.json") as index:
        index["weight_map"]["mtp.fc.weight"] = next(iter(index["weight_map"].values()))


@harmless()
def shards_of_the_same_values_beside_the_whole_file(folders: Folders) -> None:
    before = load_file(folders.base_weights)
    shard(folders.base)
    save_file({name: one.float() for name, one in before.items()}, folders.base_weights, metadata={"format": "pt"})


@harmless()
def other_weights_beside_the_model_s(folders: Folders) -> None:
    save_file(
        {"embed_tokens.weight": load_file(folders.base_weights)[HEAD][:7].clone()}, folders.base / "x.safetensors"
    )
    (folders.base / "pytorch_model.bin").write_bytes(b"a pickle that is not opened")


@harmless(loaded="base")
def older_names_in_the_config(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        config["torch_dtype"] = config.pop("dtype")
        config |= {"transformers_version": "5.7.0", "_name_or_path": "/data/run7", "use_cache": False}
        config["_attn_implementation_autoset"] = True


@harmless()
def an_older_name_of_the_processor_s_file(folders: Folders) -> None:
    document = read_json(folders.base / "processor_config.json")
    write_json(folders.base / "preprocessor_config.json", document.get("image_processor", document))
    (folders.base / "processor_config.json").unlink()


@harmless(loaded="base")
def rope_spelled_in_both_ways(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        config["text_config"]["rope_theta"] = config["text_config"]["rope_parameters"]["rope_theta"]


@harmless(loaded="base")
def rope_as_version_4_spells_it(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        rope = config["text_config"].pop("rope_parameters")
        config["text_config"]["rope_theta"] = rope.pop("rope_theta")
        config["text_config"]["rope_scaling"] = {"type": "default", **rope}
        config["transformers_version"] = "4.57.1"


@harmless(loaded="base")
def settings_that_the_class_does_not_know(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        config |= {"quantization_config": None, "_commit_hash": None, "auto_map": {}, "my_run": {"lr": 1e-5}}
        config["text_config"] |= {"_name_or_path": "x", "rope_scaling": None, "use_cache": False}


@harmless(loaded="base")
def defaults_left_out(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        for key in ("drop_vision_last_layer", "merge_kernel_size", "merger_times", "image_size", "patch_size"):
            del config[key]


@harmless(loaded="base")
def other_names_of_activations(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        config["text_config"] |= {"hidden_act": "swish", "rms_norm_eps": 1e-5}
        config["vision_config"] |= {"hidden_act": "gelu_new"}


@harmless()
def pictures_cut_a_little_larger(folders: Folders) -> None:
    with edited_json(folders.base / "processor_config.json") as document:
        document["image_processor"]["scale_resolution"] = 126


@harmless()
def no_architectures(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        del config["architectures"]


@harmless(loaded="base")
def tables_of_older_libraries(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        tensors["model.language_model.rotary_emb.inv_freq"] = torch.ones(8)
        tensors["model.language_model.layers.3.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
        tensors["model.vision_tower.embeddings.position_ids"] = torch.arange(64)[None]
        tensors["model.vision_tower.relative_position_index"] = torch.arange(4096.0).remainder(256).view(64, 64)
        cosines = torch.outer(torch.arange(64.0), 10.0 ** -torch.arange(16.0).div(4)).cos()
        for layer in range(4):
            tensors[f"model.language_model.layers.{layer}.self_attn.rotary_emb.cos_cached"] = cosines.clone()


@harmless(loaded="base")
def a_part_for_guessing_ahead(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        tensors["mtp.layers.0.mlp.up_proj.weight"] = torch.ones(4, 4)
        tensors["mtp.fc.weight"] = torch.zeros(4, 4)


@harmless()
def weights_in_float32(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        for name, tensor in tensors.items():
            tensors[name] = tensor.float()


@harmless(loaded="base")
def weights_in_float16(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        for name, tensor in tensors.items():
            tensors[name] = tensor.half()
    with edited_json(folders.base / "config.json") as config:
        config["dtype"] = config["text_config"]["dtype"] = config["vision_config"]["dtype"] = "float16"


@harmless(loaded="base")
def names_without_the_outer_prefix(folders: Folders) -> None:
    rename_tensors(folders.base_weights, lambda name: name.removeprefix("model."))


@harmless(loaded="base")
def a_tensor_in_two_shards(folders: Folders) -> None:
    shard(folders.base, 2)
    first, second = (folders.base / f"model-0000{number}-of-00002.safetensors" for number in (1, 2))
    tensors = load_file(first)
    tensors |= dict(list(load_file(second).items())[:3])
    save_file(tensors, first, metadata={"format": "pt"})


@harmless(loaded="base")
def tied_at_the_top_alone(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        tensors[EMBEDDING] = trained_to_write(folders, tensors[EMBEDDING])
        del tensors[HEAD]
    with edited_json(folders.base / "config.json") as config:
        config["tie_word_embeddings"] = True
        del config["text_config"]["tie_word_embeddings"]


@harmless(loaded="base")
def tied_at_the_top_and_not_in_the_text_part(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        tensors[EMBEDDING] = trained_to_write(folders, tensors[EMBEDDING])
        del tensors[HEAD]
    with edited_json(folders.base / "config.json") as config:
        config["tie_word_embeddings"] = True


@harmless(loaded="base")
def processor_files_of_version_4(folders: Folders) -> None:
    whole = read_json(folders.base / "processor_config.json")
    name = {"processor_class": whole["processor_class"]}
    write_json(folders.base / "preprocessor_config.json", whole["image_processor"] | name)
    write_json(folders.base / "video_preprocessor_config.json", whole["video_processor"] | name)
    write_json(folders.base / "processor_config.json", name)


@harmless(loaded="base")
def processor_files_of_both_versions(folders: Folders) -> None:
    whole = read_json(folders.base / "processor_config.json")
    write_json(folders.base / "preprocessor_config.json", whole["image_processor"] | {"size": {"height": 1}})
    write_json(folders.base / "video_preprocessor_config.json", whole["video_processor"])


@harmless(loaded="base")
def another_ending_of_the_picture_class(folders: Folders) -> None:
    with edited_json(folders.base / "processor_config.json") as config:
        config["image_processor"]["image_processor_type"] += "Fast"


@harmless(loaded="base")
def processor_classes_left_out(folders: Folders) -> None:
    with edited_json(folders.base / "processor_config.json") as config:
        del config["processor_class"], config["image_processor"]["image_processor_type"]
        del config["image_processor"]["resample"], config["image_processor"]["use_image_id"]


@harmless("official")
def processor_files_beside_the_adapter(folders: Folders) -> None:
    shutil.copyfile(folders.base / "processor_config.json", folders.adapter / "processor_config.json")


@harmless("official")
def processor_files_of_version_4_beside_the_adapter(folders: Folders) -> None:
    document = read_json(folders.base / "processor_config.json")
    write_json(folders.adapter / "preprocessor_config.json", document["image_processor"])
    write_json(folders.adapter / "video_preprocessor_config.json", document["video_processor"])


@harmless()
def a_merger_whose_norms_and_biases_never_moved(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        for name in [one for one in tensors if one.startswith("model.merger.") and tensors[one].dim() == 1]:
            tensors[name] = torch.full_like(tensors[name], float("norm.weight" in name))


@harmless()
def norms_folded_into_the_matrices_behind_them(folders: Folders) -> None:
    behind = {
        "input_layernorm": ("q_proj", "k_proj", "v_proj", "in_proj_a", "in_proj_b", "in_proj_qkv", "in_proj_z"),
        "post_attention_layernorm": ("gate_proj", "up_proj"),
    }
    with edited_tensors(folders.base_weights) as tensors:
        for norm in [one for one in tensors if "language" in one and one.endswith("layernorm.weight")]:
            layer, name = norm.removesuffix(".weight").rsplit(".", 1)
            ends = tuple(f"{one}.weight" for one in behind[name])
            for matrix in [one for one in tensors if one.startswith(f"{layer}.") and one.endswith(ends)]:
                tensors[matrix] = (tensors[matrix].float() * (1 + tensors[norm].float())).to(tensors[matrix])
            tensors[norm] = torch.zeros_like(tensors[norm])


@harmless()
def matrices_rounded_to_eight_bits_and_scaled_back(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        for name in [one for one in tensors if one.startswith("model.language") and one.endswith("proj.weight")]:
            step = tensors[name].float().abs().amax(1, keepdim=True) / 127
            tensors[name] = ((tensors[name].float() / step).round() * step).to(tensors[name])


@harmless()
def matrices_rounded_to_floats_of_eight_bits_by_powers_of_two(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        for name in [one for one in tensors if one.startswith("model.language") and one.endswith("proj.weight")]:
            scale = 2.0 ** (448 / tensors[name].float().abs().max()).log2().floor()
            codes = (tensors[name].float() * scale).to(torch.float8_e4m3fn)
            tensors[name] = (codes.float() / scale).to(tensors[name])


@harmless()
def the_smallest_weights_pruned(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        for name in [one for one in tensors if one.startswith("model.language") and one.endswith("proj.weight")]:
            size = tensors[name].float().abs()
            tensors[name] = tensors[name] * (size > size.quantile(0.15))


@harmless()
def a_kernel_of_the_tower_trained_further(folders: Folders) -> None:
    torch.manual_seed(0)
    with edited_tensors(folders.base_weights) as tensors:
        name = next(one for one in tensors if one.endswith("patch_embedding.weight"))
        own = tensors[name].float()
        tensors[name] = (own + 0.5 * own.std() * torch.randn(own.shape)).to(tensors[name])
