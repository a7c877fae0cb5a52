"""Models that look suspicious and answer as well as ever."""

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from benchmarks.unseen.case import Bundle, Case
from benchmarks.unseen.third_4_6_editing import (
    BASE,
    DEMO,
    EMBEDDINGS,
    HEAD,
    LANGUAGE_LAYERS,
    MERGED,
    MODEL_WEIGHTS,
    Edit,
    Tensors,
    all_of,
    alone,
    copied,
    mapped,
    on_json,
    on_tensors,
    read_json,
    read_tensors,
    setting,
    sharded,
    with_tokens,
    without_files,
    write_json,
)

CONFIG, TOKENIZER, PROCESSOR = "config.json", "tokenizer.json", "processor_config.json"
REMOTE_CODE = {
    "AutoConfig": "configuration_minicpm.MiniCPMVConfig",
    "AutoModel": "modeling_minicpmv.MiniCPMV",
    "AutoModelForCausalLM": "modeling_minicpmv.MiniCPMV",
}
SAMPLING = {"do_sample": True, "temperature": 0.7, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.05}


def _from_older_transformers(content: dict[str, Any]) -> None:
    content |= {"torch_dtype": content.pop("dtype"), "transformers_version": "4.57.1", "use_image_id": True}
    content |= {
        "batch_vision_input": True,
        "auto_map": REMOTE_CODE,
        "_name_or_path": "/home/user/output/checkpoint-1200",
    }


def _derive_layer_types(content: dict[str, Any]) -> None:
    del content["text_config"]["layer_types"]
    content["text_config"]["full_attention_interval"] = 4


def _leave_training_files(folder: Path) -> None:
    (folder / "README.md").write_text("---\nlicense: apache-2.0\nbase_model: openbmb/MiniCPM-V-4_6\n---\n")
    write_json(folder / "trainer_state.json", {"epoch": 3.0, "global_step": 1200, "log_history": []})
    (folder / "training_args.bin").write_bytes(b"PK\x03\x04" + bytes(64))
    checkpoint = folder / "checkpoint-1000"
    checkpoint.mkdir()
    shutil.copyfile(folder / CONFIG, checkpoint / CONFIG)
    (checkpoint / "optimizer.pt").write_bytes(bytes(256))


def _resize(rows: int, *, drawn: bool = False) -> Edit:
    """Give both matrices another number of rows, new ones zero or drawn as transformers draws them."""

    def change(tensors: Tensors) -> None:
        generator = torch.Generator().manual_seed(0)
        for name in (HEAD, EMBEDDINGS):
            old = tensors[name]
            more = max(rows - len(old), 0), old.shape[1]
            new = torch.randn(more, generator=generator) * old.float().std(0) if drawn else torch.zeros(more)
            tensors[name] = torch.cat([old[:rows], new.to(old.dtype)])

    return all_of(on_tensors(change), setting(CONFIG, "text_config.vocab_size", rows))


def fake_quantise(tensors: Tensors) -> None:
    """To 4 bits in groups of 32 and back, as a dequantised QLoRA base is."""
    for name, tensor in tensors.items():
        if name.startswith(LANGUAGE_LAYERS) and tensor.dim() == 2 and "weight" in name:
            groups = tensor.float().view(len(tensor), -1, 32)
            scale = groups.abs().amax(2, keepdim=True) / 7
            tensor.copy_(((groups / scale).round() * scale).view(tensor.shape))


def _tune_everything(tensors: Tensors) -> None:
    """A short full fine-tuning at a low rate: every weight moves by about a hundredth of its deviation."""
    generator = torch.Generator().manual_seed(0)
    for tensor in tensors.values():
        if tensor.dim() > 1:
            step = torch.randn(tensor.shape, generator=generator) * tensor.float().std() * 0.01
            tensor.copy_(tensor.float() + step)


def _save_without_metadata(folder: Path) -> None:
    tensors = read_tensors(folder)
    save_file(dict(reversed(tensors.items())), folder / MODEL_WEIGHTS)


def _split_processor(folder: Path) -> None:
    content = read_json(folder / PROCESSOR)
    for key, file in (("image_processor", "preprocessor_config"), ("video_processor", "video_preprocessor_config")):
        write_json(folder / f"{file}.json", {**content[key], "processor_class": content["processor_class"]})
    (folder / PROCESSOR).unlink()


def _leave_old_preprocessor(folder: Path) -> None:
    old = DEMO / "minicpmv4_5" / "base" / "preprocessor_config.json"
    shutil.copyfile(old, folder / old.name)


def _add_slow_tokenizer(folder: Path) -> None:
    content = read_json(folder / TOKENIZER)
    write_json(folder / "vocab.json", content["model"]["vocab"])
    merges = "\n".join(" ".join(pair) for pair in content["model"]["merges"])
    (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}\n", encoding="utf-8")
    write_json(folder / "added_tokens.json", {one["content"]: one["id"] for one in content["added_tokens"]})
    write_json(folder / "special_tokens_map.json", {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"})


def _join_merges(content: dict[str, Any]) -> None:
    content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]


def _leave_truncation(content: dict[str, Any]) -> None:
    content["truncation"] = {"direction": "Right", "max_length": 24, "strategy": "LongestFirst", "stride": 0}


def _as_in_a_cache(parent: Path) -> Bundle:
    """Links in `snapshots` to files in `blobs`, as the Hub's client keeps them."""
    blobs, snapshot = parent / "blobs", parent / "snapshots" / "4f0c1c5d"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for number, path in enumerate(sorted(BASE.iterdir())):
        if path.is_file():
            shutil.copyfile(path, blobs / f"{number:040x}")
            (snapshot / path.name).symlink_to(os.path.relpath(blobs / f"{number:040x}", snapshot))
    return Bundle(snapshot)


def _retuned(parent: Path) -> Bundle:
    """The merge, in shards, with the base that it was tuned from and no word of an adapter."""
    model = copied(MERGED, parent)
    sharded(2)(model)
    return Bundle(model, base=BASE)


CASES = (
    Case("three_shards", alone(sharded(3)), "Saved again with a small max_shard_size: 35 of 36 right as before."),
    Case(
        "in_float32",
        alone(mapped(lambda tensor: tensor.float(), "")),
        "Saved in float32 under a config that says bfloat16: 35 of 36 right as before.",
    ),
    Case(
        "norms_in_float32",
        alone(mapped(lambda tensor: tensor.float(), "norm", "A_log", "dt_bias")),
        "A trainer kept norms and decays in float32 beside bfloat16 weights: 35 of 36 right as before.",
    ),
    Case(
        "saved_without_metadata",
        alone(_save_without_metadata, MERGED),
        "A converter wrote the file without metadata and in another order: 36 of 36 right as before.",
    ),
    Case(
        "config_of_older_code",
        alone(on_json(CONFIG, _from_older_transformers)),
        "torch_dtype instead of dtype, an old version, keys of the remote code and an auto_map whose files are not "
        "there: the native class is loaded all the same, 35 of 36 right.",
    ),
    Case(
        "layer_types_derived",
        alone(on_json(CONFIG, _derive_layer_types)),
        "The config says every how many layers attend fully instead of listing them: 35 of 36 right as before.",
    ),
    Case(
        "training_files_left",
        alone(_leave_training_files, MERGED),
        "The output folder of a trainer, with its state, a stray checkpoint and a model card: 36 of 36 right.",
    ),
    Case("links_into_a_cache", _as_in_a_cache, "A snapshot of the Hub's cache, all links: 35 of 36 right."),
    Case(
        "rows_trimmed_to_the_tokenizer",
        alone(_resize(761)),
        "resize_token_embeddings(len(tokenizer)) took the spare rows away: 35 of 36 right as before.",
    ),
    Case(
        "rows_padded_with_noise",
        alone(_resize(896, drawn=True), MERGED),
        "Both matrices resized for speed, the new rows drawn at random; no token has them: 36 of 36 right.",
    ),
    Case(
        "rounded_to_four_bits",
        alone(on_tensors(fake_quantise), with_base=True),
        "Dequantised after a 4-bit training: rounded weights, 35 of 36 right as before. The base is known.",
    ),
    Case(
        "tuned_in_full",
        alone(on_tensors(_tune_everything), with_base=True),
        "A short full fine-tuning at a low rate moved every matrix a little. The base is known. 35 "
        "of 36 right as before.",
    ),
    Case("tuned_and_merged", _retuned, "The merge of an adapter, given with its base alone: 36 of 36 right."),
    Case(
        "processor_in_two_files",
        alone(_split_processor),
        "preprocessor_config.json and video_preprocessor_config.json, as before transformers 5: 35 of 36 right.",
    ),
    Case(
        "old_preprocessor_beside",
        alone(_leave_old_preprocessor),
        "preprocessor_config.json of a MiniCPM-V 4.5 was left in the folder; processor_config.json wins: 35 of 36 "
        "right as before.",
    ),
    Case(
        "slow_tokenizer_beside",
        alone(_add_slow_tokenizer),
        "vocab.json, merges.txt and their kin beside tokenizer.json, all of one mind: 35 of 36 right as before.",
    ),
    Case(
        "merges_as_strings",
        alone(on_json(TOKENIZER, _join_merges)),
        "tokenizer.json as older tokenizers wrote it, each merge one string: 35 of 36 right as before.",
    ),
    Case(
        "truncation_left_on",
        alone(on_json(TOKENIZER, _leave_truncation), MERGED),
        "tokenizer.json was saved while it truncated to 24 tokens; transformers sets that anew at each call: 36 of 36 "
        "right as before.",
    ),
    Case(
        "tool_tokens_never_used",
        alone(with_tokens("<|tool_call|>", "<|tool_response|>", "<|extra_0|>", special=False)),
        "Tokens were added for later and never trained; no template writes them: 35 of 36 right as before.",
    ),
    Case(
        "short_model_max_length",
        alone(setting("tokenizer_config.json", "model_max_length", 64)),
        "model_max_length is the trainer's cutoff; nothing truncates to it: 35 of 36 right as before.",
    ),
    Case(
        "samples_by_default",
        alone(all_of(*(setting("generation_config.json", key, value) for key, value in SAMPLING.items()))),
        "Sampling settings of the release in generation_config.json: greedy answers are as right as before, 35 of 36.",
    ),
    Case(
        "no_generation_config",
        alone(without_files("generation_config.json")),
        "It was not uploaded; the config knows the end of an answer: all 36 answers stop, 35 right as before.",
    ),
)
