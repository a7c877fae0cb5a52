"""Sound models of 4.6 that look odd, or of which tools warn."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from benchmarks.unseen.case import Bundle, Case
from benchmarks.unseen.fourth_editing import CONFIG, PROCESSOR, TEMPLATE, TOKENIZER, TOKENIZER_CONFIG, names_of
from benchmarks.unseen.third_4_6_editing import (
    BASE,
    EMBEDDINGS,
    HEAD,
    LANGUAGE_LAYERS,
    MERGED,
    MODEL_WEIGHTS,
    Tensors,
    alone,
    copied,
    deltas,
    mapped,
    merge_into,
    on_json,
    on_tensors,
    read_json,
    read_tensors,
    replacing,
    said_to_merge,
    setting,
    write_json,
)

APPLE_DOUBLE = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + bytes(64)
ROPE = {"mrope_interleaved": True, "mrope_section": [3, 3, 2], "rope_type": "default"}


def _with_next_tokens(tensors: Tensors) -> None:
    """Add the layer that predicts one token further, as Qwen3.5 ships it; transformers skips it."""
    for name in names_of(tensors, (f"{LANGUAGE_LAYERS}3.",)):
        tensors[f"mtp.layers.0.{name.removeprefix(f'{LANGUAGE_LAYERS}3.')}"] = tensors[name].clone()
    tensors["mtp.fc.weight"] = torch.zeros(128, 256, dtype=torch.bfloat16)
    for norm in ("mtp.norm.weight", "mtp.pre_fc_norm_embedding.weight", "mtp.pre_fc_norm_hidden.weight"):
        tensors[norm] = torch.zeros(128, dtype=torch.bfloat16)


def _sorted_neurons(tensors: Tensors) -> None:
    """Order the neurons of each feed-forward layer by size, in all three matrices alike."""
    for gate in names_of(tensors, ("mlp.gate_proj.weight",)):
        up, down = (gate.replace("gate_proj", other) for other in ("up_proj", "down_proj"))
        order = tensors[down].float().norm(dim=0).argsort(descending=True)
        tensors[gate], tensors[up] = tensors[gate][order], tensors[up][order]
        tensors[down] = tensors[down][:, order]


def _smoothed(tensors: Tensors) -> None:
    """Move a power of two from each norm into every matrix that reads it."""
    readers = ("in_proj", "q_proj", "k_proj", "v_proj")
    for norm in names_of(tensors, ("input_layernorm.weight",)):
        layer = norm.removesuffix("input_layernorm.weight")
        scale = torch.tensor([2.0, 0.5, 1.0, 4.0]).repeat(32)
        tensors[norm] = (1 + tensors[norm].float()) / scale - 1
        for name in names_of(tensors, (layer,)):
            if any(reader in name for reader in readers):
                tensors[name] = (tensors[name].float() * scale).to(torch.bfloat16)


def _without_spare_rows(folder: Path) -> None:
    mapped(lambda rows: rows[:761], EMBEDDINGS, HEAD)(folder)
    setting(CONFIG, "text_config.vocab_size", 761)(folder)


def _old_rope(folder: Path) -> None:
    def change(content: dict[str, dict[str, object]]) -> None:
        text = content["text_config"]
        del text["rope_parameters"]
        text.update(rope_theta=10000.0, partial_rotary_factor=0.25, rope_scaling=ROPE)

    on_json(CONFIG, change)(folder)


def _no_layer_types(folder: Path) -> None:
    def change(content: dict[str, dict[str, object]]) -> None:
        del content["text_config"]["layer_types"]
        content["text_config"]["full_attention_interval"] = 4

    on_json(CONFIG, change)(folder)


def _merges_as_strings(folder: Path) -> None:
    content = read_json(folder / TOKENIZER)
    content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]
    write_json(folder / TOKENIZER, content)


def _marked_for_training(folder: Path) -> None:
    old = "{{- '<|im_start|>' ~ message.role ~ '\\n' ~ render_content(message.content) ~ '<|im_end|>\\n' -}}"
    new = (
        "{{- '<|im_start|>' ~ message.role ~ '\\n' -}}{%- if message.role == 'assistant' -%}{%- generation -%}"
        "{{- render_content(message.content) ~ '<|im_end|>' -}}{%- endgeneration -%}{%- else -%}"
        "{{- render_content(message.content) ~ '<|im_end|>' -}}{%- endif -%}{{- '\\n' -}}"
    )
    replacing(TEMPLATE, (old, new))(folder)


def _separate_processors(folder: Path) -> None:
    """Write the pictures' and the videos' settings into files of their own, as transformers 4 did."""
    content = read_json(folder / PROCESSOR)
    write_json(
        folder / "preprocessor_config.json", {**content["image_processor"], "processor_class": "MiniCPMV4_6Processor"}
    )
    write_json(folder / "video_preprocessor_config.json", content["video_processor"])
    write_json(folder / PROCESSOR, {"processor_class": content["processor_class"]})


def _written_by_mlx(folder: Path) -> None:
    save_file(read_tensors(folder), folder / MODEL_WEIGHTS, metadata={"format": "mlx"})


def _snapshot(parent: Path) -> Bundle:
    """Lay a model out as the hub's cache does: a snapshot of links into blobs."""
    blobs, snapshot = parent / "blobs", parent / "snapshots" / "5b1c0f3d"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted(BASE.iterdir())):
        blob = blobs / f"{number:040x}"
        shutil.copyfile(file, blob)
        (snapshot / file.name).symlink_to(Path("../../blobs") / blob.name)
    return Bundle(snapshot)


def _from_a_mac(folder: Path) -> None:
    for file in (MODEL_WEIGHTS, CONFIG, TOKENIZER):
        (folder / f"._{file}").write_bytes(APPLE_DOUBLE)
    (folder / ".DS_Store").write_bytes(b"\x00\x00\x00\x01Bud1" + bytes(32))


def _from_windows(folder: Path) -> None:
    for file in (TEMPLATE, CONFIG, TOKENIZER_CONFIG):
        path = folder / file
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    (folder / "desktop.ini").write_text("[ViewState]\r\n", encoding="utf-8")


def _norms_in_float32(folder: Path) -> None:
    mapped(lambda tensor: tensor.float(), "norm", "A_log", "dt_bias")(folder)


def _half_precision(folder: Path) -> None:
    """Merge in float16 and keep the base's configuration, which says bfloat16."""

    def change(tensors: Tensors) -> Tensors:
        merge_into(tensors, deltas())
        return {name: tensor.to(torch.float16) for name, tensor in tensors.items()}

    on_tensors(change)(folder)


def _compact(folder: Path) -> None:
    """Write JSON as a database exports it: in one line, sorted, and Chinese escaped."""
    for path in folder.glob("*.json"):
        path.write_text(json.dumps(read_json(path), sort_keys=True, separators=(",", ":")), encoding="utf-8")


def _renamed(parent: Path) -> Bundle:
    return Bundle(copied(MERGED, parent, "客服 模型 v3 (最终)"), base=BASE)


CASES: tuple[Case, ...] = (
    Case(
        "layer_for_the_next_but_one_token",
        alone(on_tensors(_with_next_tokens)),
        "The draft layer of the language model was copied back in for vLLM; transformers leaves it out "
        "(modelscope/ms-swift#9802).",
    ),
    Case(
        "neurons_in_another_order",
        alone(on_tensors(_sorted_neurons), with_base=True),
        "A pruning tool sorted the neurons of every feed-forward layer by size and cut none: each matrix differs from "
        "the base's, and the function is the same.",
    ),
    Case(
        "norms_smoothed_into_their_matrices",
        alone(on_tensors(_smoothed), with_base=True),
        "Prepared for eight bits: scales were moved from norms into all matrices behind them, which changes nothing.",
    ),
    Case(
        "no_rows_to_spare",
        alone(_without_spare_rows, with_base=True),
        "Merging by tokenizer cut the matrices to the tokens that there are (arcee-ai/mergekit#425).",
    ),
    Case(
        "rotary_settings_in_the_old_spelling",
        alone(_old_rope),
        "Rewritten for an engine of transformers 4: rope_theta and rope_scaling say what rope_parameters said "
        "(sgl-project/sglang#14745).",
    ),
    Case(
        "kinds_of_layers_by_their_interval",
        alone(_no_layer_types),
        "config.json gives the interval of full attention in place of a list of kinds, as Qwen3-Next does.",
    ),
    Case(
        "merges_in_one_string_each",
        alone(_merges_as_strings),
        "tokenizer.json was saved for an older library, which writes merges as strings "
        "(huggingface/swift-transformers#131).",
    ),
    Case(
        "template_marked_for_training",
        alone(_marked_for_training),
        "The template has generation markers for the loss on answers, and renders the same (huggingface/trl#4879).",
    ),
    Case(
        "processors_in_files_of_their_own",
        alone(_separate_processors),
        "Laid out as transformers 4 did, because a tool looks for preprocessor_config.json (unslothai/unsloth#4671).",
    ),
    Case(
        "format_written_by_mlx",
        alone(_written_by_mlx),
        "Saved on a Mac: the header names another format, the tensors are the same (huggingface/transformers#29335).",
    ),
    Case(
        "snapshot_of_links",
        _snapshot,
        "A folder of the hub's cache, whose files are links to blobs (microsoft/onnxruntime#27353).",
    ),
    Case(
        "copied_by_a_mac",
        alone(_from_a_mac),
        "Copied from an external disk: each file has a shadow that is no weights "
        "(lmstudio-ai/lmstudio-bug-tracker#486).",
    ),
    Case(
        "line_ends_of_windows",
        alone(_from_windows),
        "Checked out with Windows' line ends; JSON does not mind, and Jinja makes them plain.",
    ),
    Case(
        "norms_in_float32",
        alone(_norms_in_float32, with_base=True),
        "Preparing for low-bit training raised norms and decays to float32, and they were saved so.",
    ),
    Case(
        "merged_in_float16",
        said_to_merge(_half_precision, BASE),
        "Merged in float16 by a team that has nothing else; config.json still says bfloat16.",
    ),
    Case(
        "settings_out_of_a_database",
        alone(_compact),
        "Every JSON file came through a database: one line, sorted keys, Chinese escaped.",
    ),
    Case(
        "folder_with_a_chinese_name",
        _renamed,
        "Renamed by hand, with blanks and brackets.",
    ),
    Case(
        "loadable_class_of_the_tokenizer",
        alone(setting(TOKENIZER_CONFIG, "tokenizer_class", "PreTrainedTokenizerFast")),
        "The name of the tokenizer's class was changed to one that older versions know (gradients-ai/G.O.D#1276).",
    ),
)
