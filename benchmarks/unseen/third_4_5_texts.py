"""The language model of the 4.5 demo as a folder of its own, with an adapter: a text-only model for cases."""

import json
import shutil
from pathlib import Path

from safetensors.torch import load_file

from benchmarks.unseen.case import Bundle
from benchmarks.unseen.third_4_5_folders import DEMO, FACTORS, OLD_TOKENIZER_FILES, PREFIX, SETTINGS, json_of, save

LANGUAGE = "llm."
NOT_OF_LANGUAGE = (
    *("version", "auto_map", "batch_vision_input", "batch_3d_resampler", "drop_vision_last_layer", "image_size"),
    *("patch_size", "query_num", "slice_config", "slice_mode", "vision_config"),
)


def text_model(folder: Path, name: str = "model") -> Path:
    """Write the language model as transformers would: Qwen3, whose names are those of Llama and MiniCPM4."""
    source, output = DEMO / "base", folder / name
    output.mkdir()
    for file in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(source / file, output / file)
    for file in OLD_TOKENIZER_FILES:
        shutil.copyfile(source / file, output / file)
    with json_of(output / "config.json") as config:
        for key in NOT_OF_LANGUAGE:
            config.pop(key)
        config |= {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"}
    with json_of(output / "tokenizer_config.json") as config:
        config.pop("auto_map")
        config["tokenizer_class"] = "Qwen2Tokenizer"
        config["chat_template"] = config["chat_template"].replace(
            "enable_thinking is defined and enable_thinking is false", "not enable_thinking | default(false)"
        )
    tensors = load_file(source / "model.safetensors")
    save(output, {key.removeprefix(LANGUAGE): one for key, one in tensors.items() if key.startswith(LANGUAGE)})
    return output


def text_adapter(folder: Path, name: str = "adapter") -> Path:
    """Write what the adapter of 4.5 does to the language model, as plain PEFT would have trained it."""
    source, output = DEMO / "adapters" / "official", folder / name
    output.mkdir()
    settings = json.loads((source / SETTINGS).read_text(encoding="utf-8"))
    settings |= {
        "auto_mapping": None,
        "base_model_name_or_path": "minicpm-demo-text",
        "modules_to_save": ["embed_tokens"],
        "target_modules": ["k_proj", "o_proj", "q_proj", "v_proj"],
        "task_type": "CAUSAL_LM",
    }
    (output / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    start = PREFIX + LANGUAGE
    tensors = load_file(source / FACTORS)
    save(
        output,
        {PREFIX + key.removeprefix(start): one for key, one in tensors.items() if key.startswith(start)},
        FACTORS,
    )
    return output


def adapted_text(folder: Path) -> tuple[Bundle, Path]:
    """Write text model and adapter; return what is handed over, and the adapter's folder to be edited."""
    adapter = text_adapter(folder)
    return Bundle(text_model(folder), {"polite": adapter}), adapter
