"""Broken adapters of 4.6: factors that were saved, converted or copied so that they are lost or wrong."""

import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from benchmarks.unseen.case import Bundle, Case
from benchmarks.unseen.fourth_editing import ADAPTER_CONFIG
from benchmarks.unseen.third_4_6_editing import (
    ADAPTER_WEIGHTS,
    ADAPTERS,
    BASE,
    MARKUP_ROWS,
    MERGED,
    Tensors,
    adapted,
    all_of,
    copied,
    on_tensors,
    read_json,
    read_tensors,
    renamed,
    setting,
    without_setting,
    write_json,
    write_tensors,
)

MODEL = "base_model.model."
EMBEDDINGS_OF_ADAPTER = f"{MODEL}model.language_model.embed_tokens.weight"


def _empty_embeddings(tensors: Tensors) -> None:
    tensors[EMBEDDINGS_OF_ADAPTER] = tensors[EMBEDDINGS_OF_ADAPTER].new_zeros(0)


def _fuse_gate_and_up(tensors: Tensors) -> Tensors:
    """Put the factors of gate and up into one, the second below the first, as a server keeps them in memory."""
    fused = {name: one for name, one in tensors.items() if "gate_proj" not in name and "up_proj" not in name}
    for name in [one for one in tensors if "gate_proj.lora_A" in one]:
        other, second = name.replace("gate_proj", "up_proj"), name.replace("lora_A", "lora_B")
        fused[name.replace("gate_proj", "gate_up_proj")] = torch.cat([tensors[name], tensors[other]])
        one, two = tensors[second], tensors[second.replace("gate_proj", "up_proj")]
        upper, lower = torch.cat([one, torch.zeros_like(two)], 1), torch.cat([torch.zeros_like(one), two], 1)
        fused[second.replace("gate_proj", "gate_up_proj")] = torch.cat([upper, lower])
    return fused


def _targets_of_fused(folder: Path) -> None:
    config = read_json(folder / ADAPTER_CONFIG)
    targets = [one for one in config["target_modules"] if one not in ("gate_proj", "up_proj")]
    rank = {"gate_up_proj": 2 * config["r"]}
    changed = {
        "target_modules": [*targets, "gate_up_proj"],
        "rank_pattern": rank,
        "alpha_pattern": {"gate_up_proj": 32},
    }
    write_json(folder / ADAPTER_CONFIG, {**config, **changed})


def _rows_beside(folder: Path) -> None:
    """Move the trained rows into the file that another trainer writes them to."""
    tensors = read_tensors(folder)
    rows = {name: one for name, one in tensors.items() if "trainable_tokens_delta" in name}
    named = {"output_embeddings" if "lm_head" in name else "input_embeddings": one for name, one in rows.items()}
    save_file(named, folder / "new_embeddings.safetensors", metadata={"format": "pt"})
    write_tensors(folder, {name: one for name, one in tensors.items() if name not in rows})


def _zero_the_tail(folder: Path) -> None:
    """Zero the second half of the file, as where it was set aside on the disk but never received."""
    path = folder / ADAPTER_WEIGHTS
    content = path.read_bytes()
    half = len(content) // 2
    path.write_bytes(content[:half] + bytes(len(content) - half))


def _empty_state(folder: Path) -> None:
    torch.save({}, folder / "adapter_model.bin")
    (folder / ADAPTER_WEIGHTS).unlink()


def _joined_with_flag(folder: Path) -> None:
    """Bring the scale into the factors, as joining adapters does, and leave the flag that scales by the root."""
    tensors, config = read_tensors(folder), read_json(folder / ADAPTER_CONFIG)
    scale = config["lora_alpha"] / config["r"]
    write_tensors(folder, {name: one * scale if "lora_B" in name else one for name, one in tensors.items()})
    write_json(folder / ADAPTER_CONFIG, {**config, "lora_alpha": config["r"], "use_rslora": True})


def _to_mlx(folder: Path) -> None:
    """Write the folder as mlx-lm does: other names, transposed factors, and a configuration of its own."""
    suffixes = (("lora_A.weight", "lora_a"), ("lora_B.weight", "lora_b"))
    tensors: Tensors = {}
    for name, one in read_tensors(folder).items():
        for old, new in suffixes:
            if name.endswith(old):
                tensors[name.removeprefix(MODEL).replace(old, new)] = one.T.contiguous()
    save_file(tensors, folder / "adapters.safetensors")
    (folder / ADAPTER_WEIGHTS).unlink()
    parameters = {"rank": 8, "scale": 2.0, "dropout": 0.0}
    settings = {"fine_tune_type": "lora", "num_layers": 4, "lora_parameters": parameters, "model": "MiniCPM-V-4_6"}
    write_json(folder / ADAPTER_CONFIG, settings)


def _into_subfolder(folder: Path) -> None:
    (folder / "sft").mkdir()
    for path in [one for one in folder.iterdir() if one.is_file()]:
        shutil.move(path, folder / "sft" / path.name)
    (folder / "README.md").write_text("---\nlibrary_name: peft\n---\n", encoding="utf-8")


def _with_bom(folder: Path) -> None:
    path = folder / ADAPTER_CONFIG
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())


def _on_what_has_it(parent: Path) -> Bundle:
    return Bundle(copied(MERGED, parent, "tuned"), {"json": copied(ADAPTERS / "json", parent)}, base=BASE)


def _whole_rows(folder: Path) -> None:
    """Write the embedding matrix, with the trained rows, at the size of the tokenizer."""
    tensors = read_tensors(folder)
    base = read_tensors(BASE)
    for short in ("model.language_model.embed_tokens", "lm_head"):
        rows = tensors.pop(f"{MODEL}{short}.token_adapter.trainable_tokens_delta")
        whole = base[f"{short}.weight"].clone()
        whole[MARKUP_ROWS] = rows
        tensors[f"{MODEL}{short}.weight"] = whole[: MARKUP_ROWS.stop]
    write_tensors(folder, tensors)


CASES: tuple[Case, ...] = (
    Case(
        "zero3_left_the_embeddings_empty",
        adapted(on_tensors(_empty_embeddings), "official"),
        "ZeRO-3 had the whole copy of the embeddings spread over the cards when one of them saved, so that the file "
        "has the factors but a matrix of no rows; nothing loads (ymcui/Chinese-LLaMA-Alpaca-2#392).",
        ("embed_tokens", "size mismatch", "shape", "empty"),
    ),
    Case(
        "factors_named_for_the_text_model",
        adapted(renamed(lambda name: name.replace("model.language_model.layers", "model.layers"))),
        "Trained with the text-only class, whose layers lie elsewhere than in the model with pictures: every factor is "
        "left out and the base answers (hiyouga/LlamaFactory#10294).",
        ("lora_A", "lora_B", "language_model", "model.layers", "q_proj"),
    ),
    Case(
        "gate_and_up_fused_as_a_server_has_them",
        adapted(all_of(on_tensors(_fuse_gate_and_up), _targets_of_fused)),
        "A script wrote the factors by the fused names that a server uses; the model has no such module, so that two "
        "thirds of the feed-forward tuning are left out (vllm-project/vllm#1625).",
        ("gate_up_proj", "gate_proj", "up_proj"),
    ),
    Case(
        "trained_rows_in_a_file_that_nobody_reads",
        adapted(all_of(_rows_beside, without_setting(ADAPTER_CONFIG, "trainable_token_indices")), "tokens"),
        "The rows of the new tokens lie in new_embeddings.safetensors, which PEFT does not read; the new tokens keep "
        "the base's unused rows and no answer has its markup (arcee-ai/mergekit#328).",
        ("new_embeddings", "<fig>", "<col>", "761", "embed_tokens", "lm_head"),
    ),
    Case(
        "interrupted_download_with_space_set_aside",
        adapted(_zero_the_tail),
        "A download manager set the whole file aside and was stopped half-way: the size is right, the second half is "
        "zeros, and the later layers are not tuned at all.",
        ("layers.2", "layers.3", "zero", "untrained", "lora_B"),
    ),
    Case(
        "state_saved_as_nothing",
        adapted(_empty_state),
        "The script wraps `state_dict` for an old PEFT, and a newer one wrote an adapter_model.bin of 443 bytes with "
        "no tensor; the base answers (ymcui/Chinese-LLaMA-Alpaca#711).",
        ("adapter_model.bin", "lora_A", "no tensor", "empty", "q_proj"),
    ),
    Case(
        "joined_adapter_kept_the_flag_of_its_parts",
        adapted(_joined_with_flag),
        "Joining brought the scale into the factors and set alpha to the rank, yet kept `use_rslora` of the parts: the "
        "update is the root of the rank too strong, and answers are garbage (huggingface/peft#3473).",
        ("use_rslora", "rslora", "scale", "scaling", "alpha", "strong"),
    ),
    Case(
        "adapter_as_mlx_writes_it",
        adapted(_to_mlx),
        "Trained on a Mac: mlx-lm calls the file, the settings and the factors otherwise and transposes them; PEFT "
        "cannot load the folder (ml-explore/mlx-lm#1119).",
        ("peft_type", "adapters.safetensors", "adapter_model.safetensors", "adapter_config"),
    ),
    Case(
        "named_adapter_saved_a_folder_deeper",
        adapted(_into_subfolder),
        "The adapter had another name than `default`, so that PEFT saved it into a folder of that name, and the folder "
        "above was handed over: it has no adapter_config.json (huggingface/peft#1717).",
        ("adapter_config.json", "adapter_model", "sft/"),
    ),
    Case(
        "settings_saved_by_notepad",
        adapted(_with_bom),
        "Somebody changed the path of the base with an editor that puts a byte order mark before the text; PEFT cannot "
        "read the settings and the adapter does not load.",
        ("adapter_config.json", "BOM", "byte order"),
    ),
    Case(
        "mounted_on_a_model_that_has_it_already",
        _on_what_has_it,
        "The export already has the adapter merged in, and the deployment still mounts the adapter on it: it counts "
        "twice and answers become wrong.",
        ("already", "twice", "merged in", "base_model_name"),
    ),
    Case(
        "embeddings_cut_to_the_tokenizer",
        adapted(
            all_of(
                _whole_rows,
                setting(ADAPTER_CONFIG, "trainable_token_indices", None),
                setting(ADAPTER_CONFIG, "modules_to_save", ["embed_tokens", "lm_head"]),
            ),
            "tokens",
        ),
        "`resize_token_embeddings(len(tokenizer))` cut the padded matrices before training, so that whole copies of "
        "them no longer fit the base and nothing loads (hiyouga/LlamaFactory#5262).",
        ("embed_tokens", "lm_head", "767", "size mismatch"),
    ),
)
"""Cases of one adapter's weights over the base of 4.6."""
