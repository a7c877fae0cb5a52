"""Harmless differences of whole folders: other layouts, other spellings of settings, leftovers of older libraries.

Does not judge; `test_harmless.py` does.
"""

import shutil

import torch
from differences import harmless
from safetensors.torch import load_file, save_file

from tests.builders import (
    EMBEDDING,
    PREFIX,
    Folders,
    edited_json,
    edited_tensors,
    read_json,
    rename_tensors,
    shard,
    split_base,
    write_json,
)


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


@harmless(loaded="base")
def a_part_for_guessing_ahead(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        tensors["mtp.layers.0.mlp.up_proj.weight"] = torch.ones(4, 4)


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
        del tensors["lm_head.weight"]
    with edited_json(folders.base / "config.json") as config:
        config["tie_word_embeddings"] = True
        del config["text_config"]["tie_word_embeddings"]


@harmless(loaded="base")
def tied_at_the_top_and_not_in_the_text_part(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        del tensors["lm_head.weight"]
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


@harmless()
def spare_rows_up_to_a_round_number(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        for name in (EMBEDDING, "lm_head.weight"):
            tensors[name] = torch.cat([tensors[name], tensors[name][-1:].repeat(64, 1)])
    with edited_json(folders.base / "config.json") as config:
        config["text_config"]["vocab_size"] += 64


@harmless("official")
def processor_files_beside_the_adapter(folders: Folders) -> None:
    shutil.copyfile(folders.base / "processor_config.json", folders.adapter / "processor_config.json")


@harmless("official")
def processor_files_of_version_4_beside_the_adapter(folders: Folders) -> None:
    document = read_json(folders.base / "processor_config.json")
    write_json(folders.adapter / "preprocessor_config.json", document["image_processor"])
    write_json(folders.adapter / "video_preprocessor_config.json", document["video_processor"])


@harmless("official")
def the_adapter_s_template_indented_otherwise(folders: Folders) -> None:
    path = folders.adapter / "chat_template.jinja"
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(one.lstrip() for one in lines), encoding="utf-8")


@harmless()
def the_tokenizer_ends_texts_with_the_other_stop_token(folders: Folders) -> None:
    with edited_json(folders.base / "tokenizer_config.json") as config:
        config["eos_token"] = "<|endoftext|>"


@harmless()
def a_map_of_special_tokens_that_agrees(folders: Folders) -> None:
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    document = {"eos_token": {"content": "<|im_end|>", **flags}, "pad_token": "<|im_end|>"}
    write_json(folders.base / "special_tokens_map.json", document)


@harmless("official")
def a_merger_trained_far(folders: Folders) -> None:
    generator = torch.Generator().manual_seed(0)
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if ".merger.mlp" in one and tensors[one].dim() == 2]:
            noise = torch.randn(tensors[name].shape, generator=generator)
            tensors[name] = (tensors[name].float() + 0.5 * tensors[name].float().std() * noise).to(tensors[name].dtype)


@harmless(loaded="adapter")
def parameters_named_one_by_one(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["target_modules"].remove("down_proj")
        config |= {"target_parameters": ["down_proj.weight", "experts.gate_up_proj"], "lora_dropout": 0.0}


@harmless()
def a_template_without_videos(folders: Folders) -> None:
    path = folders.base / "chat_template.jinja"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("item.type == 'video'", "false"), encoding="utf-8")


@harmless()
def template_in_the_file_of_processors(folders: Folders) -> None:
    template = folders.base / "chat_template.jinja"
    write_json(folders.base / "chat_template.json", {"chat_template": template.read_text(encoding="utf-8")})
    template.unlink()


@harmless()
def special_tokens_named_in_another_order(folders: Folders) -> None:
    with edited_json(folders.base / "tokenizer_config.json") as config:
        config["extra_special_tokens"] = dict(reversed(config["extra_special_tokens"].items()))


@harmless()
def a_base_that_the_factors_were_cut_out_of(folders: Folders) -> None:
    """As PEFT's guide to PiSSA has it: the rest is the base, and the factors are said to have begun at zero."""
    parts = split_base(folders)
    with edited_tensors(folders.base_weights) as tensors:
        for module, (_, _, rest) in parts.items():
            tensors[f"{module}.weight"] = rest.to(tensors[f"{module}.weight"].dtype)
    with edited_tensors(folders.adapter_weights) as tensors:
        for module, (first, second, _) in parts.items():
            tensors[f"{PREFIX}{module}.lora_A.weight"] += first
            tensors[f"{PREFIX}{module}.lora_B.weight"] += second
