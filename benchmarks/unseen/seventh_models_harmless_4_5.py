"""Sound models in the layout of 4.5 that look odd, or of which tools warn."""

from pathlib import Path
from typing import Any

import torch

from benchmarks.unseen.case import Case
from benchmarks.unseen.fourth_editing import (
    CONFIG,
    PREPROCESSOR,
    TOKENIZER_CONFIG,
    alone_4_5,
    mean_row,
    trainer_leftovers,
    with_rows,
)
from benchmarks.unseen.third_4_6_editing import (
    Tensors,
    all_of,
    on_json,
    on_tensors,
    read_json,
    setting,
    sharded,
    write_json,
)

MATRICES = ("llm.model.embed_tokens.weight", "llm.lm_head.weight")
TOOLS = """\
{#- 客服模板：没有工具时与原来的一样 -#}
{%- if tools -%}
    {{- '<|im_start|>system\\n# Tools\\n' -}}
    {%- for tool in tools -%}
        {{- tool | tojson ~ '\\n' -}}
    {%- endfor -%}
    {{- '<|im_end|>\\n' -}}
{%- endif -%}
"""


def _remote_names(folder: Path) -> None:
    """Name the repository before each class of remote code, as saving does."""
    for file in (CONFIG, PREPROCESSOR, TOKENIZER_CONFIG):
        content = read_json(folder / file)
        content["auto_map"] = {
            key: [f"openbmb/MiniCPM-V-4_5--{one}" if one else None for one in value]
            if isinstance(value, list)
            else f"openbmb/MiniCPM-V-4_5--{value}"
            for key, value in content["auto_map"].items()
        }
        write_json(folder / file, content)


def _with_tools(folder: Path) -> None:
    content = read_json(folder / TOKENIZER_CONFIG)
    content["chat_template"] = TOOLS + content["chat_template"]
    write_json(folder / TOKENIZER_CONFIG, content)


def _scaled_pairs(tensors: Tensors) -> None:
    """Halve what goes up and double what comes down, exactly."""
    for name in [one for one in tensors if one.endswith("mlp.up_proj.weight")]:
        tensors[name] = tensors[name] / 2
        down = name.replace("up_proj", "down_proj")
        tensors[down] = tensors[down] * 2


def _other_window(content: dict[str, Any]) -> None:
    content.update(use_sliding_window=False, sliding_window=4096, max_window_layers=28)


def _new_rope(content: dict[str, Any]) -> None:
    content["rope_parameters"] = {"rope_type": "default", "rope_theta": content["rope_theta"]}


def _hearing(tensors: Tensors) -> None:
    """Add a few tensors of the release that also hears and speaks."""
    tensors["apm.conv1.weight"] = torch.zeros(8, 4, 3, dtype=torch.bfloat16)
    tensors["apm.layers.0.fc1.weight"] = torch.zeros(8, 8, dtype=torch.bfloat16)
    tensors["tts.emb_text.weight"] = torch.zeros(8, 8, dtype=torch.bfloat16)


def _buffers(tensors: Tensors) -> None:
    tensors["vpm.embeddings.position_ids"] = torch.arange(64)[None]
    for layer in range(4):
        tensors[f"llm.model.layers.{layer}.self_attn.rotary_emb.inv_freq"] = 1e6 ** (-torch.arange(0, 64, 2) / 64)


CASES: tuple[Case, ...] = (
    Case(
        "remote_code_by_its_repository",
        alone_4_5(_remote_names),
        "Saved by a trainer, which writes the repository before each class of remote code "
        "(huggingface/transformers#34855).",
    ),
    Case(
        "template_with_a_branch_for_tools",
        alone_4_5(_with_tools, with_base=True),
        "A service team added tools and a comment in Chinese; without tools it renders the same.",
    ),
    Case(
        "spare_rows_up_to_a_round_number",
        alone_4_5(all_of(with_rows(832, mean_row, *MATRICES), setting(CONFIG, "vocab_size", 832)), with_base=True),
        "Matrices were padded to a multiple of 64 for the sake of speed; no token has the new rows.",
    ),
    Case(
        "halves_and_doubles",
        alone_4_5(on_tensors(_scaled_pairs), with_base=True),
        "One factor was moved from one projection into the next before quantising, exactly, and never quantised.",
    ),
    Case(
        "window_that_is_switched_off",
        alone_4_5(on_json(CONFIG, _other_window)),
        "The window's size and layers come from another release; it is switched off.",
    ),
    Case(
        "rotary_base_said_twice",
        alone_4_5(on_json(CONFIG, _new_rope)),
        "Written for both versions of transformers: rope_theta where either looks for it, and the same "
        "(sgl-project/sglang#14745).",
    ),
    Case(
        "tensors_for_hearing_and_speaking",
        alone_4_5(on_tensors(_hearing)),
        "Taken out of the release that also hears and speaks, of which some tensors stayed.",
    ),
    Case(
        "shards_and_a_trainer_s_files",
        alone_4_5(all_of(sharded(7), trainer_leftovers, setting(CONFIG, "use_cache", False))),
        "A trainer's last checkpoint: small shards, its own state beside them, and the cache switched off "
        "(huggingface/trl#3891).",
    ),
    Case(
        "buffers_of_an_old_version",
        alone_4_5(on_tensors(_buffers)),
        "Saved by a version that still wrote position_ids and inv_freq, which are computed anyway.",
    ),
)
