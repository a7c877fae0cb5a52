"""Harmless models of the 4.5 demo: other layouts of the same checkpoint."""

from pathlib import Path

import torch

from benchmarks.unseen.case import Case
from benchmarks.unseen.fourth_editing import (
    CONFIG,
    TEMPLATE,
    TOKENIZER,
    TOKENIZER_CONFIG,
    alone_4_5,
    to_type,
)
from benchmarks.unseen.third_4_6_editing import (
    Tensors,
    all_of,
    on_tensors,
    read_json,
    read_tensors,
    setting,
    without_files,
    write_json,
)

REMOTE = "openbmb/MiniCPM-V-4_5--"


def _prefix_code(model: Path) -> None:
    content = read_json(model / CONFIG)
    content["auto_map"] = {key: REMOTE + value for key, value in content["auto_map"].items()}
    write_json(model / CONFIG, content)


def _template_as_file(model: Path) -> None:
    content = read_json(model / TOKENIZER_CONFIG)
    (model / TEMPLATE).write_text(content.pop("chat_template"), encoding="utf-8")
    write_json(model / TOKENIZER_CONFIG, content)


def _pickle_beside(model: Path) -> None:
    torch.save(read_tensors(model), model / "pytorch_model.bin")


def _forget_reserved_rows(tensors: Tensors) -> None:
    for name in ("llm.lm_head.weight", "llm.model.embed_tokens.weight"):
        mean = tensors[name][:774].float().mean(0)
        tensors[name][774:] = mean.to(tensors[name].dtype)


def _rope_in_both_places(model: Path) -> None:
    content = read_json(model / CONFIG)
    content["rope_parameters"] = {"rope_type": "default", "rope_theta": content["rope_theta"]}
    write_json(model / CONFIG, content)


CASES: tuple[Case, ...] = (
    Case(
        "code_named_with_its_repository",
        alone_4_5(all_of(_prefix_code, setting(CONFIG, "_name_or_path", "openbmb/MiniCPM-V-4_5"))),
        "transformers writes the repository before each class of remote code when it saves a model from the hub "
        "(huggingface/transformers#29083)",
    ),
    Case(
        "merge_without_vocabulary_files",
        alone_4_5(
            without_files("vocab.json", "merges.txt", "added_tokens.json", "special_tokens_map.json"), with_base=True
        ),
        "Newer versions save tokenizer.json alone, and people miss vocab.json and merges.txt in their merges "
        "(hiyouga/LlamaFactory#10169)",
    ),
    Case(
        "vocabulary_files_without_tokenizer_json",
        alone_4_5(without_files(TOKENIZER)),
        "Saved by a slow tokenizer: vocabulary, merges and added tokens, from which the fast one is built",
    ),
    Case(
        "template_in_a_file_of_its_own",
        alone_4_5(_template_as_file),
        "Newer versions of transformers write the template beside tokenizer_config.json",
    ),
    Case(
        "pickled_weights_beside",
        alone_4_5(_pickle_beside),
        "An older trainer's pytorch_model.bin with the same weights lies beside model.safetensors",
    ),
    Case(
        "reserved_rows_reset_to_the_mean",
        alone_4_5(on_tensors(_forget_reserved_rows), with_base=True),
        "Resizing started the rows of reserved tokens, which occur in no prompt, anew from the mean",
    ),
    Case(
        "rope_named_as_both_versions_do",
        alone_4_5(_rope_in_both_places),
        "Saved so that older and newer versions find the base of the rotary embedding, which is the same in both "
        "places (sgl-project/sglang#14745)",
    ),
    Case(
        "half_precision_of_another_kind",
        alone_4_5(all_of(to_type(torch.float16), setting(CONFIG, "torch_dtype", "float16")), with_base=True),
        "Saved in float16 for a card without bfloat16; no weight is too large for it (stas00/ml-engineering#41)",
    ),
)
