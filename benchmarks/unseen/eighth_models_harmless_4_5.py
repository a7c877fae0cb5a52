"""Harmless models of the eighth wave of the generation 2.6 to 4.5."""

from pathlib import Path
from typing import Any

import torch

from benchmarks.unseen.case import Case
from benchmarks.unseen.fourth_editing import (
    ADAPTERS_4_5,
    CONFIG,
    PREPROCESSOR,
    TEMPLATE,
    TOKENIZER_CONFIG,
    alone_4_5,
    merging,
    said_to_merge_4_5,
    saved_modules,
    to_type,
)
from benchmarks.unseen.third_4_6_editing import (
    Tensors,
    all_of,
    on_json,
    on_tensors,
    read_json,
    setting,
    without_files,
    write_json,
)

SOURCE = "openbmb/MiniCPM-V-4_5--"


def template_moved_out(folder: Path) -> None:
    """Move the template into a file of its own."""
    content = read_json(folder / TOKENIZER_CONFIG)
    (folder / TEMPLATE).write_text(content.pop("chat_template"), encoding="utf-8")
    write_json(folder / TOKENIZER_CONFIG, content)


def rope_said_twice(content: dict[str, Any]) -> None:
    """Add the rotary settings in the form of transformers 5."""
    content["rope_parameters"] = {"rope_type": "default", "rope_theta": content["rope_theta"]}


def code_elsewhere(content: dict[str, Any]) -> None:
    """Point to the code in the repository that the model was loaded from."""
    content["auto_map"] = {kind: SOURCE + name for kind, name in content["auto_map"].items()}


def older_buffers(tensors: Tensors) -> None:
    """Add tables that older code saved and newer code computes."""
    frequencies = 1.0 / 1000000 ** (torch.arange(0, 64, 2).float() / 64)
    for layer in range(4):
        tensors[f"llm.model.layers.{layer}.self_attn.rotary_emb.inv_freq"] = frequencies.clone()
    tensors["vpm.embeddings.position_ids"] = torch.arange(64)[None]


def whole_modules(tensors: Tensors) -> None:
    """Put the modules that the adapter tuned whole in the place of the base's."""
    tensors.update({name: one.float() for name, one in saved_modules(ADAPTERS_4_5 / "official").items()})


CASES: tuple[Case, ...] = (
    Case(
        "template_in_a_file_of_its_own",
        alone_4_5(template_moved_out),
        "A newer version saved the template as chat_template.jinja instead of in tokenizer_config.json "
        "(huggingface/transformers#33957).",
    ),
    Case(
        "rotary_base_said_twice",
        alone_4_5(on_json(CONFIG, rope_said_twice)),
        "rope_parameters was added for transformers 5 beside rope_theta, with the same base (vllm-project/vllm#29333).",
    ),
    Case(
        "code_referred_to_elsewhere",
        alone_4_5(on_json(CONFIG, code_elsewhere)),
        "save_pretrained put the repository's name before each file of the code, as it does since the code is no "
        "longer copied (huggingface/transformers#22698).",
    ),
    Case(
        "tables_of_older_code",
        alone_4_5(on_tensors(older_buffers)),
        "inv_freq and position_ids are in the file, from code that saved them; they are computed anew "
        "(huggingface/transformers#35255).",
    ),
    Case(
        "token_lists_no_longer_saved",
        alone_4_5(without_files("added_tokens.json", "special_tokens_map.json")),
        "transformers 5 no longer writes special_tokens_map.json and added_tokens.json; tokenizer.json and "
        "tokenizer_config.json say the same (microsoft/onnxruntime-extensions#1044).",
    ),
    Case(
        "saved_in_float32",
        alone_4_5(all_of(to_type(torch.float32), setting(CONFIG, "torch_dtype", "float32"))),
        "Saved from a trainer that kept float32 weights.",
    ),
    Case(
        "saved_in_float16",
        alone_4_5(all_of(to_type(torch.float16), setting(CONFIG, "torch_dtype", "float16"))),
        "Tuned with --fp16 as the official script does on older cards; people ask whether bfloat16 survives it "
        "(stas00/ml-engineering#41).",
    ),
    Case(
        "fast_picture_processor_named",
        alone_4_5(setting(PREPROCESSOR, "use_fast", True)),
        "use_fast was saved after the warning about slow picture processors; this processor has one kind only "
        "(vllm-project/vllm-ascend#382).",
    ),
    Case(
        "merge_kept_in_float32",
        said_to_merge_4_5(
            all_of(
                to_type(torch.float32),
                merging(ADAPTERS_4_5 / "official"),
                on_tensors(whole_modules),
                setting(CONFIG, "torch_dtype", "float32"),
            )
        ),
        "Merged in float32 and saved so, for fear of rounding; twice as large as the base and of another type.",
    ),
)
