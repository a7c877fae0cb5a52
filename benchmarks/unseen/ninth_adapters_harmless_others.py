"""Harmless merges of 4.6, and harmless adapters and merges of 4.5."""

from pathlib import Path

import torch

from benchmarks.unseen.case import Case
from benchmarks.unseen.fourth_editing import (
    ADAPTER_CONFIG,
    ADAPTERS_4_5,
    CONFIG,
    TOKENIZER_CONFIG,
    adapted_4_5,
    merging,
    said_to_merge_4_5,
    saved_modules,
    to_type,
    trainer_leftovers,
)
from benchmarks.unseen.third_4_6_editing import (
    ADAPTER_WEIGHTS,
    ADAPTERS,
    BASE,
    Tensors,
    all_of,
    deltas,
    on_json,
    on_tensors,
    read_tensors,
    said_to_merge,
    setting,
    sharded,
    write_json,
)

OFFICIAL = ADAPTERS_4_5 / "official"
FACTORY_TEMPLATE = """\
{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}\
{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% endif %}\
{% if system_message is defined %}{{ '<|im_start|>system\\n' + system_message + '<|im_end|>\\n' }}{% endif %}\
{% for message in loop_messages %}{% set content = message['content'] %}{% if message['role'] == 'user' %}\
{{ '<|im_start|>user\\n' + content + '<|im_end|>\\n<|im_start|>assistant\\n' }}\
{% if loop.last and enable_thinking is defined and enable_thinking is false %}\
{{ '<think>\\n\\n</think>\\n\\n' }}{% elif loop.last and enable_thinking is defined and enable_thinking is true %}\
{{ '<think>\\n' }}{% endif %}{% elif message['role'] == 'assistant' %}\
{{ content + '<|im_end|>' + '\\n' }}{% endif %}{% endfor %}"""


def _in_bfloat16(tensors: Tensors) -> None:
    """Add the updates in the weights' own type, which rounds the product before the sum."""
    for name, update in deltas(ADAPTERS / "json").items():
        tensors[name] = tensors[name] + update.to(torch.bfloat16)


def _saved(tensors: Tensors) -> None:
    tensors.update({name: one for name, one in saved_modules(OFFICIAL).items() if name in tensors})


def _copies_beside(folder: Path) -> None:
    others = {name: one for name, one in read_tensors(folder).items() if ".lora_" not in name}
    torch.save(others, folder / "vpm_resampler_embedtokens.pt")


def _whole_names(folder: Path) -> None:
    names = [name for name in read_tensors(folder) if "lora_A" in name]
    targets = [name.removeprefix("base_model.model.").partition(".lora_A")[0] for name in names]
    setting(ADAPTER_CONFIG, "target_modules", targets)(folder)


def _to_bin(folder: Path) -> None:
    torch.save(read_tensors(folder), folder / "adapter_model.bin")
    (folder / ADAPTER_WEIGHTS).unlink()


def _export_leftovers(folder: Path) -> None:
    trainer_leftovers(folder)
    (folder / "Modelfile").write_text("FROM .\nPARAMETER num_ctx 4096\n", encoding="utf-8")
    write_json(folder / "configuration.json", {"framework": "pytorch", "task": "visual-question-answering"})
    (folder / ".gitattributes").write_text("*.safetensors filter=lfs diff=lfs merge=lfs -text\n", encoding="utf-8")
    (folder / ".msc").write_bytes(b"\x80\x04]\x94.")


CASES: tuple[Case, ...] = (
    Case(
        "merged_in_the_weights_own_type",
        said_to_merge(on_tensors(_in_bfloat16), BASE),
        "Merged in bfloat16 on a card in place of float32: sums are rounded once more, and answers are as good "
        "(hiyouga/LlamaFactory#3096).",
    ),
    Case(
        "merge_exported_in_three_files",
        said_to_merge(all_of(sharded(3), _export_leftovers)),
        "The export was told a size for its files and wrote three with an index, beside a Modelfile and what "
        "ModelScope keeps (hiyouga/LlamaFactory#8134).",
    ),
    Case(
        "merge_kept_in_float32",
        said_to_merge(
            all_of(
                to_type(torch.float32),
                merging(ADAPTERS / "json"),
                setting(CONFIG, "dtype", "float32"),
                setting(CONFIG, "text_config.dtype", "float32"),
            ),
            BASE,
        ),
        "Merged in float32 and saved so: twice as large, and closer to the adapter than a rounded merge "
        "(ml-explore/mlx-lm#1120).",
    ),
    Case(
        "merge_without_a_cache_in_its_settings",
        said_to_merge(
            all_of(
                setting(CONFIG, "text_config.use_cache", False),
                setting(CONFIG, "use_cache", False),
                setting(CONFIG, "_name_or_path", "/root/.cache/modelscope/hub/OpenBMB/MiniCPM-V-4_6"),
            )
        ),
        "Gradient checkpointing turned the cache off and the export saved that with the path it came from; answers are "
        "the same, only slower to come.",
    ),
    Case(
        "copies_of_saved_modules_beside",
        adapted_4_5(_copies_beside),
        "A script between two versions wrote the whole copies into the adapter and once more into "
        "vpm_resampler_embedtokens.pt, which nobody reads (OpenBMB/MiniCPM-V#272).",
    ),
    Case(
        "adapter_4_5_in_an_old_file",
        adapted_4_5(_to_bin),
        "`save_safetensors=False`, or an older PEFT: adapter_model.bin with the same tensors (OpenBMB/MiniCPM-V#177).",
    ),
    Case(
        "adapter_4_5_cast_to_half",
        adapted_4_5(to_type(torch.float16)),
        "Cast to half precision for cards that lack bfloat16; the smallest numbers lose some bits, answers are as good "
        "(QwenLM/Qwen3#379).",
    ),
    Case(
        "targets_listed_by_their_whole_names",
        adapted_4_5(_whole_names),
        "The trainer wrote each module that it found in place of the pattern of the script; both mean the same modules "
        "(OpenBMB/MiniCPM-V#333).",
    ),
    Case(
        "template_of_a_factory_for_texts",
        adapted_4_5(setting(TOKENIZER_CONFIG, "chat_template", FACTORY_TEMPLATE)),
        "The trainer's own template, which opens the assistant's turn after each question of the user; where contents "
        "are texts it renders the same (hiyouga/LlamaFactory#5489).",
    ),
    Case(
        "merge_4_5_whole_in_two_files",
        said_to_merge_4_5(all_of(on_tensors(_saved), merging(OFFICIAL), sharded(2))),
        "A whole merge, copies of modules included, saved in two files by `max_shard_size`.",
    ),
    Case(
        "tokenizer_4_5_without_its_code",
        adapted_4_5(
            on_json(
                TOKENIZER_CONFIG,
                lambda content: content.update(auto_map=None, tokenizer_class="PreTrainedTokenizerFast"),
            )
        ),
        "Saved by transformers without the remote code, with its general class: tokens and template are the same, "
        "and the service needs no code.",
    ),
)
"""Harmless merges, and adapters of 4.5."""
