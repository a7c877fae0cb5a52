"""Sound folders of the generation of 2.6, 4.0 and 4.5 that look unusual: models, and adapters over them."""

from pathlib import Path
from typing import Any

import torch

from benchmarks.unseen.case import Case
from benchmarks.unseen.fifth_adapters_editing import with_settings
from benchmarks.unseen.fourth_editing import (
    ADAPTERS_4_5,
    CONFIG,
    PREPROCESSOR,
    TOKENIZER,
    TOKENIZER_CONFIG,
    adapted_4_5,
    alone_4_5,
    merging,
    said_to_merge_4_5,
    saved_modules,
    to_type,
    trainer_leftovers,
)
from benchmarks.unseen.third_4_6_editing import (
    Tensors,
    all_of,
    on_json,
    on_tensors,
    setting,
    sharded,
    without_files,
    without_setting,
)

_SLOW_FILES = ("vocab.json", "merges.txt", "added_tokens.json", "special_tokens_map.json")
_OFFICIAL = ADAPTERS_4_5 / "official"


def _with_frequencies(tensors: Tensors) -> None:
    for layer in range(4):
        steps = torch.arange(0, 64, 2).float() / 64
        tensors[f"llm.model.layers.{layer}.self_attn.rotary_emb.inv_freq"] = 1_000_000.0**-steps


def _other_merges(content: dict[str, Any]) -> None:
    merges = content["model"]["merges"]
    content["model"]["merges"] = [" ".join(one) if isinstance(one, list) else one.split(" ") for one in merges]


def _named_twice(content: dict[str, Any]) -> None:
    markers = ("im_start", "im_end", "slice_start", "slice_end", "im_id_start", "im_id_end", "unk")
    content.update({f"{name}_token": content[name] for name in markers})
    content.update({"mean": content["norm_mean"], "std": content["norm_std"]})


def _without_thoughts(content: dict[str, Any]) -> None:
    content["chat_template"] = (
        "{%- set enable_thinking = enable_thinking | default(false) %}" + content["chat_template"]
    )


def _whole(folder: Path) -> None:
    merging(_OFFICIAL)(folder)
    on_tensors(lambda tensors: tensors | {k: v.to(tensors[k].dtype) for k, v in saved_modules(_OFFICIAL).items()})(
        folder
    )


def _with_the_scripts_file(adapter: Path) -> None:
    torch.save(saved_modules(adapter), adapter / "vpm_resampler_embedtokens.pt")
    trainer_leftovers(adapter)


def _as_rewritten(content: dict[str, Any]) -> None:
    content["dtype"] = content.pop("torch_dtype")
    content["transformers_version"] = "5.20.0"
    content.update({"return_dict": True, "output_hidden_states": False, "architectures": ["MiniCPMV"]})


CASES = (
    Case(
        "frequencies_saved_along",
        alone_4_5(on_tensors(_with_frequencies)),
        "An older library saved each layer's rotary frequencies; they follow from the settings, and nobody reads them.",
    ),
    Case(
        "without_the_slow_tokenizer",
        alone_4_5(without_files(*_SLOW_FILES)),
        "Only the fast tokenizer was saved; the files of the slow one say nothing more.",
    ),
    Case(
        "tokenizer_of_the_language_model",
        alone_4_5(
            all_of(
                setting(TOKENIZER_CONFIG, "tokenizer_class", "Qwen2TokenizerFast"),
                without_setting(TOKENIZER_CONFIG, "auto_map"),
            )
        ),
        "A trainer saved the tokenizer under the language model's class, without the release's own; tokens and "
        "template are the same.",
    ),
    Case(
        "picture_settings_named_twice",
        alone_4_5(on_json(PREPROCESSOR, _named_twice)),
        "The processor saves each of its marks a second time, under the name of its attribute. "
        "(hiyouga/LlamaFactory#5934)",
    ),
    Case(
        "settings_rewritten_by_a_later_library",
        alone_4_5(on_json(CONFIG, _as_rewritten)),
        "A later transformers saved the settings, with dtype for torch_dtype and a few defaults spelled out.",
    ),
    Case(
        "merges_spelled_otherwise",
        alone_4_5(on_json(TOKENIZER, _other_merges)),
        "Another version of tokenizers writes each merge in another of its two forms; an old one cannot read the "
        "newer, and this one reads both. (hiyouga/LlamaFactory#5749)",
    ),
    Case(
        "thoughts_off_unless_asked",
        alone_4_5(on_json(TOKENIZER_CONFIG, _without_thoughts)),
        "For a server without that switch, the template got a line that turns thoughts off where nobody asks for "
        "them. (OpenBMB/MiniCPM-V#988)",
    ),
    Case(
        "float16_in_shards",
        alone_4_5(all_of(to_type(torch.float16), setting(CONFIG, "torch_dtype", "float16"), sharded(3))),
        "Saved in float16 and in shards for an older GPU; answers are as good.",
    ),
    Case(
        "merged_whole",
        said_to_merge_4_5(_whole),
        "Factors, tower, resampler and embeddings of the official adapter were merged. (OpenBMB/MiniCPM-V#298)",
    ),
    Case(
        "scripts_file_and_adapter",
        adapted_4_5(_with_the_scripts_file),
        "The official script's own file of what it trained whole lies beside an adapter that has all of it too; the "
        "adapter is enough. (OpenBMB/MiniCPM-V#298)",
    ),
    Case(
        "targets_as_a_list",
        adapted_4_5(
            with_settings(
                {
                    "target_modules": ["v_proj", "q_proj", "k_proj", "o_proj"],
                    "exclude_modules": r"vpm\..*|resampler\..*",
                    "auto_mapping": None,
                    "task_type": "CAUSAL_LM",
                }
            )
        ),
        "Another trainer names the same modules by a list, without those of the tower, and has no class of the "
        "release in its settings.",
    ),
)
