"""Adapters over the demo of 4.5, broken and harmless, with the files that they bring."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from benchmarks.unseen.case import Case
from benchmarks.unseen.fourth_editing import (
    ADAPTER_CONFIG,
    BASE_4_5,
    TOKENIZER,
    TOKENIZER_CONFIG,
    adapted_4_5,
    mean_row,
    on_tensor,
    with_rows,
)
from benchmarks.unseen.third_4_6_editing import (
    MODEL_WEIGHTS,
    Edit,
    Tensors,
    on_json,
    on_tensors,
    read_json,
    read_tensors,
    renamed,
    replacing,
    setting,
    without_setting,
    write_json,
    write_tensors,
)

PREFIX = "base_model.model."


def _compiled(name: str) -> str:
    return name.replace(".vpm.", ".vpm._orig_mod.").replace(".resampler.", ".resampler._orig_mod.")


def _stages_from_zero(tensors: Tensors) -> Tensors:
    """Number the layers of each of two stages from zero, so that the second stage's are written over the first's."""
    changed: Tensors = {}
    for name, one in sorted(tensors.items()):
        if ".lora_" in name:
            for old, new in ((".layers.2.", ".layers.0."), (".layers.3.", ".layers.1.")):
                name = name.replace(old, new)
        changed[name] = one
    return changed


def _unknown_renamed(folder: Path) -> None:
    replacing(TOKENIZER, ('"<unk>"', '"[UNK]"'))(folder)
    replacing(TOKENIZER_CONFIG, ('"<unk>"', '"[UNK]"'))(folder)
    for file in ("special_tokens_map.json", "added_tokens.json"):
        replacing(file, ('"<unk>"', '"[UNK]"'))(folder)


def _transposed_squares(tensors: Tensors) -> None:
    for name, one in tensors.items():
        if ".resampler." in name and one.dim() == 2 and one.shape[0] == one.shape[1]:
            tensors[name] = one.t().contiguous()


def _head_as_well(folder: Path) -> None:
    tensors = read_tensors(folder)
    tensors[PREFIX + "llm.lm_head.weight"] = load_file(BASE_4_5 / MODEL_WEIGHTS)["llm.lm_head.weight"].clone()
    write_tensors(folder, tensors)
    on_json(ADAPTER_CONFIG, lambda config: config["modules_to_save"].append("lm_head"))(folder)


def _whole_names(folder: Path) -> None:
    config = read_json(folder / ADAPTER_CONFIG)
    names = {one.removeprefix(PREFIX).partition(".lora_")[0] for one in read_tensors(folder) if ".lora_" in one}
    write_json(folder / ADAPTER_CONFIG, {**config, "target_modules": sorted(names)})


def _windows_lists(folder: Path) -> None:
    for file in ("merges.txt", "vocab.json"):
        text = (folder / file).read_text(encoding="utf-8")
        (folder / file).write_bytes(text.replace("\n", "\r\n").encode())


def _template(*pairs: tuple[str, str]) -> Edit:
    def edit(folder: Path) -> None:
        config = read_json(folder / TOKENIZER_CONFIG)
        text = config["chat_template"]
        for old, new in pairs:
            if old not in text:
                raise ValueError(old)
            text = text.replace(old, new)
        write_json(folder / TOKENIZER_CONFIG, {**config, "chat_template": text})

    return edit


def _other_class(folder: Path) -> None:
    setting(TOKENIZER_CONFIG, "tokenizer_class", "Qwen2TokenizerFast")(folder)
    without_setting(TOKENIZER_CONFIG, "auto_map")(folder)


def _vision_in_a_file_beside(folder: Path) -> None:
    """Keep factors only, and write what else was trained as the first official script did."""
    tensors = read_tensors(folder)
    others = {name.removeprefix(PREFIX): one for name, one in tensors.items() if ".lora_" not in name}
    torch.save(others, folder / "vpm_resampler_embedtokens.pt")
    write_tensors(folder, {name: one for name, one in tensors.items() if ".lora_" in name})
    setting(ADAPTER_CONFIG, "modules_to_save", None)(folder)


BROKEN: tuple[Case, ...] = (
    Case(
        "compiled_vision_names",
        adapted_4_5(renamed(_compiled)),
        "Vision tower and resampler were compiled for speed, and their trained copies were saved with the compiler's "
        "prefix; the base's see in their place (huggingface/peft#2957).",
        ("_orig_mod", "vpm", "resampler"),
    ),
    Case(
        "vision_in_a_file_beside",
        adapted_4_5(_vision_in_a_file_beside),
        "The first official script wrote vision tower, resampler and embeddings into a file of their own, which its "
        "users had to load by hand; whoever mounts the adapter alone loses them (OpenBMB/MiniCPM-V#272).",
        ("vpm_resampler_embedtokens", "resampler", "vpm", "embed_tokens"),
    ),
    Case(
        "embeddings_padded_at_training",
        adapted_4_5(with_rows(832, mean_row, PREFIX + "llm.model.embed_tokens.weight")),
        "The trainer padded the vocabulary to a multiple of 64, and the adapter's whole embeddings have rows that the "
        "base's have not; loading stops (huggingface/peft#1554).",
        ("embed_tokens", "832", "790"),
    ),
    Case(
        "stages_numbered_from_zero",
        adapted_4_5(on_tensors(_stages_from_zero)),
        "Trained in two pipeline stages, each of which numbers its layers from zero: the second's factors stand in "
        "the place of the first's, and the last layers have none (modelscope/ms-swift#7891).",
        ("layers.2", "layers.3", "missing"),
    ),
    Case(
        "place_of_pictures_renamed",
        adapted_4_5(_unknown_renamed),
        "A customer-service team gave the unknown token the name that its other models use; in this release it is the "
        "place of picture features, which are not found any more.",
        ("<unk>", "[UNK]"),
    ),
    Case(
        "tokenizer_without_template",
        adapted_4_5(without_setting(TOKENIZER_CONFIG, "chat_template")),
        "A trainer that builds prompts by itself saved the tokenizer without a template; nothing says how a "
        "conversation is written.",
        ("chat_template", "template"),
    ),
    Case(
        "norm_of_vision_not_a_number",
        adapted_4_5(on_tensor(PREFIX + "vpm.post_layernorm.weight", lambda one: one * float("nan"))),
        "Trained in float16: one step overflowed in the vision tower's last norm, and every picture is NaN from there "
        "on, while text without pictures answers (getainode/ainode#186).",
        ("post_layernorm", "nan", "NaN", "not finite", "not a number"),
    ),
    Case(
        "square_matrices_turned",
        adapted_4_5(on_tensors(_transposed_squares)),
        "A converter to a layout of its own and back turns linear weights, and turned those of the resampler once; as "
        "they are square, shapes still fit (osaurus-ai/vmlx-swift#320).",
        ("resampler", "transpose", "out_proj", "proj"),
    ),
    Case(
        "template_joins_turns",
        adapted_4_5(_template(("~ content ~ '<|im_end|>\\n'", "~ content ~ '\\n'"))),
        "A template for packing leaves out the end of each turn, which the trainer adds by itself; at serving, nobody "
        "does, and turns run into each other.",
        ("<|im_end|>", "turn", "template"),
    ),
)

HARMLESS: tuple[Case, ...] = (
    Case(
        "saved_modules_unlisted",
        adapted_4_5(setting(ADAPTER_CONFIG, "modules_to_save", None)),
        "Somebody emptied `modules_to_save` to combine two adapters; the tensors are still in the file and have the "
        "names of the base's, in whose place they go (OpenBMB/MiniCPM-V#809).",
    ),
    Case(
        "head_saved_as_well",
        adapted_4_5(_head_as_well),
        "LLaMA-Factory was told to keep embeddings and head whole; the head was frozen after all and is the base's "
        "(hiyouga/LlamaFactory#2684).",
    ),
    Case(
        "targets_by_whole_names",
        adapted_4_5(_whole_names),
        "A newer tool writes every target by its whole name where the script has a pattern: the same modules.",
    ),
    Case(
        "lists_with_windows_line_ends",
        adapted_4_5(_windows_lists),
        "Git on Windows changed the line ends of merges.txt and vocab.json; the tokenizer is read from tokenizer.json "
        "(BerriAI/litellm#42208).",
    ),
    Case(
        "tokenizer_class_of_the_language_model",
        adapted_4_5(_other_class),
        "Saved again without remote code, under the class that lies below; the vocabulary is the same.",
    ),
)
