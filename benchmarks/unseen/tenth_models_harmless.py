"""Sound models of the demo of 4.6, with what people worried about and what changes no answer."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from benchmarks.unseen.case import Bundle, Case
from benchmarks.unseen.fourth_editing import (
    CONFIG,
    GENERATION,
    PROCESSOR,
    TEMPLATE,
    TOKENIZER,
    TOKENIZER_CONFIG,
    to_type,
    trainer_leftovers,
    with_rows,
    zero_row,
)
from benchmarks.unseen.third_4_6_editing import (
    ADAPTERS,
    BASE,
    EMBEDDINGS,
    HEAD,
    INDEX,
    LANGUAGE_LAYERS,
    MERGED,
    MODEL_WEIGHTS,
    Make,
    Tensors,
    all_of,
    alone,
    copied,
    deltas,
    mapped,
    merge_into,
    on_json,
    on_tensors,
    read_json,
    read_tensors,
    said_to_merge,
    setting,
    sharded,
    without_files,
    write_json,
)


def _merges_as_text(content: dict[str, Any]) -> None:
    content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]


def _stale_template(content: dict[str, Any]) -> None:
    content["chat_template"] = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def _numbered_from_zero(folder: Path) -> None:
    tensors, file = read_tensors(folder), "model-00000-of-00001.safetensors"
    (folder / MODEL_WEIGHTS).rename(folder / file)
    total = sum(tensor.nbytes for tensor in tensors.values())
    write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": dict.fromkeys(sorted(tensors), file)})


def _shards_of_an_earlier_save(folder: Path) -> None:
    """Leave the last shards of a save that had more of them beside those that the index lists."""
    old = dict(list(read_tensors(folder).items())[:20])
    sharded(2)(folder)
    for number in (4, 5):
        save_file(old, folder / f"model-{number:05d}-of-00005.safetensors", metadata={"format": "pt"})


def _frequencies(tensors: Tensors) -> None:
    tensors[f"{LANGUAGE_LAYERS}3.self_attn.rotary_emb.inv_freq"] = 1 / 10000 ** (torch.arange(0, 16, 2) / 16)


def _float_config(content: dict[str, Any]) -> None:
    content["dtype"] = content["text_config"]["dtype"] = content["vision_config"]["dtype"] = "float32"


def _sampling(content: dict[str, Any]) -> None:
    content |= {"do_sample": False, "temperature": 0.9, "top_p": 0.6}


def _cut_to_tokenizer(folder: Path) -> None:
    with_rows(761, zero_row, HEAD, EMBEDDINGS)(folder)
    setting(CONFIG, "text_config.vocab_size", 761)(folder)


def _one_row_more(folder: Path) -> None:
    with_rows(833, zero_row, EMBEDDINGS, HEAD)(folder)
    setting(CONFIG, "text_config.vocab_size", 833)(folder)


def _no_cache(content: dict[str, Any]) -> None:
    content["text_config"]["use_cache"] = content["use_cache"] = False


def _padding_is_end(folder: Path) -> None:
    setting(TOKENIZER_CONFIG, "pad_token", "<|im_end|>")(folder)
    setting(GENERATION, "pad_token_id", 750)(folder)
    setting(CONFIG, "text_config.pad_token_id", 750)(folder)


def _under_another_name(name: str) -> Make:
    def make(parent: Path) -> Bundle:
        return Bundle(copied(MERGED, parent, name), base=BASE)

    return make


def _with_adapter_beside(folder: Path) -> None:
    shutil.copytree(ADAPTERS / "json", folder / "lora_adapter")


def _merged_in(kind: torch.dtype) -> Callable[[Path], None]:
    def change(tensors: Tensors) -> Tensors:
        exact = {name: one.float() for name, one in tensors.items()}
        merge_into(exact, deltas())
        return {name: one.to(kind) for name, one in exact.items()}

    return on_tensors(change)


def _without_format(folder: Path) -> None:
    save_file(read_tensors(folder), folder / MODEL_WEIGHTS)


def _index_names_what_is_nowhere(folder: Path) -> None:
    sharded(2)(folder)
    content = read_json(folder / INDEX)
    content["weight_map"]["mtp.fc.weight"] = "model-00002-of-00002.safetensors"
    write_json(folder / INDEX, content)


def _windows(folder: Path) -> None:
    path = folder / TEMPLATE
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))


CASES = (
    Case(
        "merges_as_text",
        alone(on_json(TOKENIZER, _merges_as_text), MERGED),
        "Saved by an older library, which writes each merge of the tokenizer as one text and not as a pair; the merges "
        "are the same (huggingface/transformers#34744).",
    ),
    Case(
        "old_template_beside_the_new_file",
        alone(on_json(TOKENIZER_CONFIG, _stale_template)),
        "tokenizer_config.json still has a template of earlier days, over which chat_template.jinja wins "
        "(huggingface/transformers#45851).",
    ),
    Case(
        "shard_numbered_from_zero",
        alone(_numbered_from_zero),
        "The one shard is called model-00000-of-00001, which some tools take for incomplete; the index names it "
        "rightly (unslothai/unsloth#10857).",
    ),
    Case(
        "shards_of_an_earlier_save",
        alone(_shards_of_an_earlier_save),
        "Saved over a folder that had more shards: the last old ones stay there, and the index names none of them "
        "(mflux-community/mflux#603).",
    ),
    Case(
        "rotary_frequencies_in_the_file",
        alone(on_tensors(_frequencies), with_base=True),
        "Loading warns that rotary_emb.inv_freq was not used; the model computes these numbers itself "
        "(hiyouga/ChatGLM-Efficient-Tuning#327).",
    ),
    Case(
        "config_says_float32",
        alone(on_json(CONFIG, _float_config), with_base=True),
        "After full tuning every part of the config says float32 while weights are bfloat16; a matter of memory only "
        "(hiyouga/LlamaFactory#7401).",
    ),
    Case(
        "twice_the_size_in_more_shards",
        alone(all_of(to_type(torch.float32), sharded(4)), MERGED, with_base=True),
        "A second full tuning saved float32, so that the folder doubled and has more shards "
        "(hiyouga/LlamaFactory#6244).",
    ),
    Case(
        "sampling_settings_without_sampling",
        alone(on_json(GENERATION, _sampling)),
        "generation_config.json has a temperature and top_p beside do_sample false; a warning says that they are "
        "ignored (hiyouga/LlamaFactory#2837).",
    ),
    Case(
        "no_generation_config",
        alone(without_files(GENERATION), MERGED),
        "The advice against an invalid generation_config.json was to delete it; the end of a turn stands in the "
        "language model's settings too (hiyouga/LlamaFactory#2545).",
    ),
    Case(
        "rows_cut_to_the_tokenizer",
        alone(_cut_to_tokenizer, with_base=True),
        "resize_token_embeddings(len(tokenizer)) took away the rows that stand behind no token "
        "(huggingface/transformers#20043).",
    ),
    Case(
        "one_row_for_padding",
        alone(_one_row_more),
        "Somebody resized embeddings by one row for a padding token and never used it (JIA-Lab-research/LongLoRA#186).",
    ),
    Case(
        "cache_switched_off",
        alone(on_json(CONFIG, _no_cache), MERGED, with_base=True),
        "Training with gradient checkpointing left use_cache false in the settings, which is slow and nothing else "
        "(turbo-llm/turbo-alignment#47).",
    ),
    Case(
        "padding_is_the_end_of_turn",
        alone(_padding_is_end, MERGED),
        "The notebook set pad_token to eos_token before training, which one conversation at a time never sees "
        "(adithya-s-k/AI-Engineering.academy#2).",
    ),
    Case(
        "folder_with_a_strange_name",
        _under_another_name("合并后 (final) v2"),
        "People were told to rename their folder for the worker to know it; a name of Chinese letters, blanks and "
        "brackets changes nothing here (haotian-liu/LLaVA#160).",
    ),
    Case(
        "decay_and_norm_in_float32",
        alone(mapped(lambda one: one.float(), "linear_attn.A_log", "linear_attn.norm.weight"), with_base=True),
        "The linear attention's decay and norm are kept in float32 while the rest is bfloat16 "
        "(modelscope/ms-swift#9972).",
    ),
    Case(
        "merge_saved_in_half_precision",
        said_to_merge(_merged_in(torch.float16), BASE),
        "Merged and saved in float16 rather than in the base's bfloat16, as somebody found better than the other way "
        "round (OpenBMB/MiniCPM-V#502).",
    ),
    Case(
        "leftovers_and_adapter_beside_a_merge",
        said_to_merge(all_of(_with_adapter_beside, trainer_leftovers)),
        "A rightly merged folder, with the adapter's own folder and the trainer's files still in it "
        "(verl-project/verl#2493).",
    ),
    Case(
        "processor_asks_for_the_slow_one",
        alone(setting(PROCESSOR, "image_processor.use_fast", False)),
        "A processor saved with use_fast false, about which a warning promises minor differences "
        "(modelscope/ms-swift#3540).",
    ),
    Case(
        "template_with_windows_line_ends",
        alone(_windows),
        "Checked out with git on Windows, which turned the template's line ends; between the tags they are trimmed.",
    ),
    Case(
        "weights_without_a_format",
        alone(_without_format, MERGED),
        "The file was saved without the metadata that names its format, for which a warning asks "
        "(huggingface/accelerate#1151).",
    ),
    Case(
        "index_names_a_tensor_of_another_head",
        alone(_index_names_what_is_nowhere),
        "The index still lists a weight for predicting several tokens at once, which no shard has and this model never "
        "uses (huggingface/huggingface_hub#4728).",
    ),
)
