"""Harmless differences that can be made from the demo's folders, each a function that edits copies of them.

Does not judge; `test_harmless.py` does.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from service.checkpoint.tokenizer import GOLDEN_TEXTS
from tests.builders import (
    EMBEDDING,
    HEAD,
    PREFIX,
    TOKENIZER_FILES,
    Folders,
    add_token,
    copy_tokenizer,
    cut_rows,
    declare_tie,
    edited_json,
    edited_tensors,
    read_json,
    rename_tensors,
    shard,
    token_id,
    write_json,
)

Make = Callable[[Folders], None]
IN_FILES: dict[str, tuple[str, Make]] = {}
"""Name -> adapter and change; every function below with `@harmless` is one."""
LOADED: dict[str, list[str]] = {"base": [], "adapter": []}
"""Names of those that are also loaded, by the folder that they change."""


def harmless(adapter: str = "json", *, loaded: str = "") -> Callable[[Make], Make]:
    def register(make: Make) -> Make:
        IN_FILES[make.__name__] = (adapter, make)
        if loaded:
            LOADED[loaded].append(make.__name__)
        return make

    return register


@harmless()
def json_key_order_and_indent(folders: Folders) -> None:
    for path in (*folders.base.glob("*.json"), *folders.adapter.glob("*.json")):
        document = read_json(path)
        write_json(path, dict(reversed(document.items())), indent=7)


@harmless("official")
def merges_as_strings(folders: Folders) -> None:
    with edited_json(folders.adapter / "tokenizer.json") as document:
        document["model"]["merges"] = [" ".join(pair) for pair in document["model"]["merges"]]


@harmless()
def rows_beyond_the_tokenizer(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        for name in (EMBEDDING, HEAD):
            spare = tensors[name].new_zeros(1024 - len(tensors[name]), tensors[name].shape[1])
            tensors[name] = torch.cat([tensors[name], spare])
    with edited_json(folders.base / "config.json") as config:
        config["text_config"]["vocab_size"] = 1024


@harmless()
def no_spare_row(folders: Folders) -> None:
    cut_rows(folders, token_id(folders.base, "</think>") + 1)


@harmless(loaded="base")
def tied_with_two_equal_tensors(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        tensors[HEAD] = tensors[EMBEDDING].clone()
    declare_tie(folders, is_tied=True)


@harmless()
def tied_without_a_head(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        del tensors[HEAD]
    declare_tie(folders, is_tied=True)


@harmless()
def untied_with_two_equal_tensors(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
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


@harmless("official")
def older_special_token_files(folders: Folders) -> None:
    for folder in (folders.base, folders.adapter):
        added = {one["content"]: one["id"] for one in read_json(folder / "tokenizer.json")["added_tokens"]}
        write_json(folder / "added_tokens.json", added)
        write_json(folder / "special_tokens_map.json", {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"})


@harmless("official")
def added_tokens_decoder_in_the_config(folders: Folders) -> None:
    for folder in (folders.base, folders.adapter):
        added = {str(one.pop("id")): one for one in read_json(folder / "tokenizer.json")["added_tokens"]}
        with edited_json(folder / "tokenizer_config.json") as config:
            config["added_tokens_decoder"] = added


@harmless("official")
def names_at_the_top_of_the_tokenizer_config(folders: Folders) -> None:
    with edited_json(folders.adapter / "tokenizer_config.json") as config:
        config.update(config.pop("extra_special_tokens"))


@harmless("official")
def another_name_of_the_tokenizer_class(folders: Folders) -> None:
    for folder, name in ((folders.base, "Qwen2TokenizerFast"), (folders.adapter, "PreTrainedTokenizerFast")):
        with edited_json(folder / "tokenizer_config.json") as config:
            config["tokenizer_class"] = name


@harmless("official")
def tokenizer_settings_without_effect_on_ids(folders: Folders) -> None:
    with edited_json(folders.adapter / "tokenizer_config.json") as config:
        config |= {"padding_side": "left", "truncation_side": "left", "model_max_length": 10**30}
        config |= {"clean_up_tokenization_spaces": True, "add_bos_token": True, "backend": "other", "is_local": False}
    with edited_json(folders.adapter / "tokenizer.json") as document:
        document["padding"] = {"strategy": "BatchLongest", "direction": "Left", "pad_to_multiple_of": None}
        document["padding"] |= {"pad_id": 0, "pad_type_id": 0, "pad_token": "!"}
        document["truncation"] = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}


@harmless("official")
def defaults_of_the_splitting_spelled_out(folders: Folders) -> None:
    with edited_json(folders.adapter / "tokenizer.json") as document:
        document["normalizer"] = {"type": "Sequence", "normalizers": [document["normalizer"]]}
        document["model"].pop("ignore_merges")


@harmless("official")
def another_pad_token(folders: Folders) -> None:
    with edited_json(folders.adapter / "tokenizer_config.json") as config:
        config["pad_token"] = "<|im_end|>"
    with edited_json(folders.base / "generation_config.json") as config:
        config["pad_token_id"] = token_id(folders.base, "<|im_end|>")


@harmless()
def no_padding_as_minus_one(folders: Folders) -> None:
    with edited_json(folders.base / "generation_config.json") as config:
        config["pad_token_id"] = -1


@harmless()
def base_tokenizer_copied_into_the_adapter(folders: Folders) -> None:
    copy_tokenizer(folders)


@harmless()
def tokenizer_json_alone_in_the_adapter(folders: Folders) -> None:
    shutil.copyfile(folders.base / "tokenizer.json", folders.adapter / "tokenizer.json")


@harmless("official")
def template_in_the_tokenizer_config(folders: Folders) -> None:
    for folder in (folders.base, folders.adapter):
        template = folder / "chat_template.jinja"
        with edited_json(folder / "tokenizer_config.json") as config:
            config["chat_template"] = template.read_text(encoding="utf-8")
        template.unlink()


@harmless()
def a_template_that_refuses_system_prompts(folders: Folders) -> None:
    path = folders.base / "chat_template.jinja"
    path.write_text(path.read_text().replace("['system', ", "["), encoding="utf-8")


@harmless()
def a_template_that_takes_lists_only(folders: Folders) -> None:
    path = folders.base / "chat_template.jinja"
    path.write_text(path.read_text().replace("content is string", "content is none"), encoding="utf-8")


@harmless()
def a_single_stop_id(folders: Folders) -> None:
    with edited_json(folders.base / "generation_config.json") as config:
        config["eos_token_id"] = token_id(folders.base, "<|im_end|>")


@harmless()
def stop_ids_in_another_order_and_one_to_spare(folders: Folders) -> None:
    with edited_json(folders.base / "generation_config.json") as config:
        config["eos_token_id"] = [*reversed(config["eos_token_id"]), max(config["eos_token_id"]) + 40]


@harmless()
def no_generation_config(folders: Folders) -> None:
    (folders.base / "generation_config.json").unlink()


@harmless()
def stop_id_in_the_config_differs_from_the_generation_config(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        config["text_config"]["eos_token_id"] = token_id(folders.base, "<|endoftext|>")


@harmless(loaded="base")
def older_names_in_the_config(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        config["torch_dtype"] = config.pop("dtype")
        config |= {"transformers_version": "5.7.0", "_name_or_path": "/data/run7", "use_cache": False}
        config["_attn_implementation_autoset"] = True


@harmless(loaded="adapter")
def unknown_and_null_fields_in_the_adapter_config(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config |= {"eva_config": None, "corda_config": None, "a_field_of_tomorrow": None, "peft_version": "0.30.0"}
        config |= {"task_type": None, "inference_mode": False, "lora_dropout": 0.3, "megatron_core": None}


@harmless(loaded="adapter")
def base_path_of_another_machine(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["base_model_name_or_path"] = "/mnt/cluster7/users/x/models/base"
        config["revision"] = "main"
        config["auto_mapping"] = {"base_model_class": "X", "parent_library": "transformers_modules.x.modeling_x"}


@harmless(loaded="adapter")
def regex_of_target_modules(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        names = "|".join(config["target_modules"])
        config["target_modules"] = rf".*language_model\.layers\.\d+\..*({names})"


@harmless(loaded="adapter")
def target_modules_that_the_base_lacks(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["target_modules"] += ["gate_up_proj", "wqkv"]


@harmless(loaded="adapter")
def layers_without_factors(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if "layers.0." in one]:
            del tensors[name]
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["exclude_modules"] = r".*(vision_tower|layers\.0\.).*"


@harmless(loaded="adapter")
def some_factors_zero(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if "layers.1." in one and "up_proj.lora_B" in one]:
            tensors[name].zero_()


@harmless(loaded="adapter")
def one_rank_of_its_own(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if "q_proj" in one]:
            tensors[name] = tensors[name][:4] if "lora_A" in name else tensors[name][:, :4]
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["rank_pattern"] = {"q_proj": 4}


@harmless(loaded="adapter")
def keys_with_the_adapter_s_name(folders: Folders) -> None:
    rename_tensors(folders.adapter_weights, lambda name: name.replace(".weight", ".default.weight"))


@harmless(loaded="adapter")
def factors_in_float32(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        for name, tensor in tensors.items():
            tensors[name] = tensor.float()


@harmless("official", loaded="adapter")
def both_names_of_the_embeddings_saved(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["modules_to_save"].append("model.embed_tokens")


@harmless("official", loaded="adapter")
def modules_to_save_that_the_base_lacks(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["modules_to_save"] += ["resampler", "classifier"]


@harmless("official", loaded="adapter")
def full_names_in_modules_to_save(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["modules_to_save"] = [EMBEDDING.removesuffix(".weight"), "merger"]


@harmless("official")
def biases_inside_saved_modules(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["bias"] = "all"


@harmless()
def files_of_the_trainer(folders: Folders) -> None:
    for name in ("training_args.bin", "optimizer.pt", "rng_state.pth", "README.md", "latest", "zero_to_fp32.py"):
        (folders.adapter / name).write_bytes(b"\x80\x04not opened")
    write_json(folders.adapter / "trainer_state.json", {"log_history": []})
    write_json(folders.adapter / "args.json", [1, 2])
    (folders.adapter / "global_step100").mkdir()
    (folders.base / ".git").mkdir()


@harmless("tokens", loaded="adapter")
def trained_ids_in_another_order(folders: Folders) -> None:
    with edited_json(folders.adapter / "adapter_config.json") as config:
        ids = config["trainable_token_indices"]
        ids["embed_tokens"] = ids["embed_tokens"][::-1]
    with edited_tensors(folders.adapter_weights) as tensors:
        name = next(one for one in tensors if "embed_tokens" in one)
        tensors[name] = tensors[name].flip(0)


@harmless("tokens")
def reserved_tokens_behind_the_new_ones(folders: Folders) -> None:
    for number in range(4):
        add_token(folders.adapter, f"<|reserved_special_token_{number}|>")


@harmless("tokens")
def a_word_of_the_vocabulary_made_a_token(folders: Folders) -> None:
    with edited_json(folders.adapter / "tokenizer.json") as document:
        known = " ".join(GOLDEN_TEXTS)
        words = [one for one in document["model"]["vocab"] if len(one) > 2 and one.isascii() and one.isalpha()]
        word = next(one for one in words if one not in known)
        token = {
            "id": document["model"]["vocab"][word],
            "content": word,
            "single_word": True,
            "lstrip": False,
            "rstrip": False,
        }
        document["added_tokens"].insert(0, {**token, "normalized": False, "special": False})


@harmless("tokens")
def a_reserved_token_of_the_base_renamed_by_the_adapter(folders: Folders) -> None:
    add_token(folders.base, "<|reserved_0|>")


@harmless("official")
def base_rows_shrunk_by_weight_decay(folders: Folders) -> None:
    with edited_tensors(folders.adapter_weights) as tensors:
        tensors[PREFIX + EMBEDDING] *= 0.99


@harmless()
def rows_never_trained_for_tokens_not_in_use(folders: Folders) -> None:
    reserved = [add_token(folders.base, f"<|reserved_{number}|>") for number in range(3)]
    with edited_tensors(folders.base_weights) as tensors:
        tensors[EMBEDDING][reserved] = 0
        tensors[EMBEDDING][token_id(folders.base, "<|video_pad|>")] = 0
        tensors[HEAD][token_id(folders.base, "<image>")] = 0


@harmless(loaded="adapter")
def a_new_token_for_padding_alone(folders: Folders) -> None:
    copy_tokenizer(folders)
    name_padding(folders.adapter, "[PAD]")


@harmless()
def a_new_token_for_padding_without_a_row(folders: Folders) -> None:
    cut_rows(folders, token_id(folders.base, "</think>") + 1)
    copy_tokenizer(folders)
    name_padding(folders.adapter, "<|PAD_TOKEN|>")


@harmless()
def a_padding_token_of_the_base_without_a_row(folders: Folders) -> None:
    cut_rows(folders, token_id(folders.base, "</think>") + 1)
    name_padding(folders.base, "[PAD]")


def name_padding(folder: Path, token: str) -> None:
    add_token(folder, token)
    with edited_json(folder / "tokenizer_config.json") as config:
        config["pad_token"] = token


@harmless(loaded="adapter")
def names_lost_in_the_adapter_alone(folders: Folders) -> None:
    copy_tokenizer(folders)
    with edited_json(folders.adapter / "tokenizer_config.json") as config:
        config["extra_special_tokens"] = ["<|im_end|>"]


@harmless(loaded="adapter")
def one_name_lost_in_the_adapter_alone(folders: Folders) -> None:
    copy_tokenizer(folders)
    with edited_json(folders.adapter / "tokenizer_config.json") as config:
        del config["extra_special_tokens"]["slice_start_token"]


@harmless()
def an_older_name_of_the_processor_s_file(folders: Folders) -> None:
    document = read_json(folders.base / "processor_config.json")
    write_json(folders.base / "preprocessor_config.json", document.get("image_processor", document))
    (folders.base / "processor_config.json").unlink()


@harmless("tokens")
def trained_tokens_merged_into_the_base(folders: Folders) -> None:
    adapter = load_file(folders.adapter_weights)
    ids = read_json(folders.adapter / "adapter_config.json")["trainable_token_indices"]
    with edited_tensors(folders.base_weights) as tensors:
        for name, module in ((EMBEDDING, "embed_tokens"), (HEAD, "lm_head")):
            rows = next(one for key, one in adapter.items() if f"{module}.token_adapter" in key)
            tensors[name][ids[module]] = rows.to(tensors[name].dtype)
    for name in TOKENIZER_FILES:
        shutil.copyfile(folders.adapter / name, folders.base / name)
        (folders.adapter / name).unlink()
    with edited_tensors(folders.adapter_weights) as tensors:
        for name in [one for one in tensors if "token_adapter" in one]:
            del tensors[name]
    with edited_json(folders.adapter / "adapter_config.json") as config:
        config["trainable_token_indices"] = None


def edit_template(folders: Folders, old: str, new: str) -> None:
    path = folders.base / "chat_template.jinja"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


@harmless()
def template_trims_the_ends_of_texts(folders: Folders) -> None:
    edit_template(folders, "{{- content -}}", "{{- content | trim -}}")


@harmless()
def template_writes_an_empty_thought_into_answers(folders: Folders) -> None:
    old, new = (
        "~ render_content",
        "~ ('<think>\\n\\n</think>\\n\\n' if message.role == 'assistant' else '') ~ render_content",
    )
    edit_template(folders, old, new)


@harmless()
def template_opens_answers_with_a_thought_only_if_asked(folders: Folders) -> None:
    edit_template(folders, "{{- '<think>\\n\\n</think>\\n\\n' -}}", "")


@harmless()
def last_spare_row_is_a_copy_of_the_turn_end(folders: Folders) -> None:
    with edited_tensors(folders.base_weights) as tensors:
        for name in (EMBEDDING, HEAD):
            tensors[name][-1] = tensors[name][token_id(folders.base, "<|im_end|>")]
