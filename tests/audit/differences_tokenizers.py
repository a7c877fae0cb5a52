"""Harmless differences of tokenizers, each a function that edits copies of the demo's folders.

Does not judge; `test_harmless.py` does.
"""

import shutil
from pathlib import Path

from service.checkpoint.tokenizer import GOLDEN_TEXTS
from tests.audit.differences_registry import harmless
from tests.builders import Folders, add_token, copy_tokenizer, cut_rows, edited_json, read_json, token_id, write_json


@harmless("json")
def tokens_for_code_that_the_family_has(folders: Folders) -> None:
    copy_tokenizer(folders.base, folders.adapter)
    for token in ("<|fim_prefix|>", "<|repo_name|>"):
        add_token(folders.adapter, token)


@harmless("official")
def merges_as_strings(folders: Folders) -> None:
    with edited_json(folders.adapter / "tokenizer.json") as document:
        document["model"]["merges"] = [" ".join(pair) for pair in document["model"]["merges"]]


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
    copy_tokenizer(folders.base, folders.adapter)


@harmless()
def tokenizer_json_alone_in_the_adapter(folders: Folders) -> None:
    shutil.copyfile(folders.base / "tokenizer.json", folders.adapter / "tokenizer.json")


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


def name_padding(folder: Path, token: str) -> None:
    add_token(folder, token)
    with edited_json(folder / "tokenizer_config.json") as config:
        config["pad_token"] = token


@harmless(loaded="adapter")
def a_new_token_for_padding_alone(folders: Folders) -> None:
    copy_tokenizer(folders.base, folders.adapter)
    name_padding(folders.adapter, "[PAD]")


@harmless()
def a_new_token_for_padding_without_a_row(folders: Folders) -> None:
    cut_rows(folders, token_id(folders.base, "</think>") + 1)
    copy_tokenizer(folders.base, folders.adapter)
    name_padding(folders.adapter, "<|PAD_TOKEN|>")


@harmless()
def a_padding_token_of_the_base_without_a_row(folders: Folders) -> None:
    cut_rows(folders, token_id(folders.base, "</think>") + 1)
    name_padding(folders.base, "[PAD]")


@harmless(loaded="adapter")
def names_lost_in_the_adapter_alone(folders: Folders) -> None:
    copy_tokenizer(folders.base, folders.adapter)
    with edited_json(folders.adapter / "tokenizer_config.json") as config:
        config["extra_special_tokens"] = ["<|im_end|>"]


@harmless(loaded="adapter")
def one_name_lost_in_the_adapter_alone(folders: Folders) -> None:
    copy_tokenizer(folders.base, folders.adapter)
    with edited_json(folders.adapter / "tokenizer_config.json") as config:
        del config["extra_special_tokens"]["slice_start_token"]


@harmless()
def the_tokenizer_ends_texts_with_the_other_stop_token(folders: Folders) -> None:
    with edited_json(folders.base / "tokenizer_config.json") as config:
        config["eos_token"] = "<|endoftext|>"


@harmless()
def a_map_of_special_tokens_that_agrees(folders: Folders) -> None:
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    document = {"eos_token": {"content": "<|im_end|>", **flags}, "pad_token": "<|im_end|>"}
    write_json(folders.base / "special_tokens_map.json", document)


@harmless()
def texts_start_with_the_token_that_starts_turns(folders: Folders) -> None:
    """As tokenizers of older releases do; a prompt that starts so twice is answered alike."""
    start = token_id(folders.base, "<|im_start|>")
    with edited_json(folders.base / "tokenizer.json") as document:
        processor = document["post_processor"]
        processor["single"].insert(0, {"SpecialToken": {"id": "<|im_start|>", "type_id": 0}})
        entry = {"id": "<|im_start|>", "ids": [start], "tokens": ["<|im_start|>"]}
        processor["special_tokens"] = {"<|im_start|>": entry}


@harmless()
def special_tokens_named_in_another_order(folders: Folders) -> None:
    with edited_json(folders.base / "tokenizer_config.json") as config:
        config["extra_special_tokens"] = dict(reversed(config["extra_special_tokens"].items()))
