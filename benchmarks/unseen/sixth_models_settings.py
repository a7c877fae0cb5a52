"""Broken settings and files of the 4.6 demo: config, generation settings and processor after editing and copying."""

from pathlib import Path

from benchmarks.unseen.case import Case
from benchmarks.unseen.fourth_editing import CONFIG, GENERATION, TEMPLATE, TOKENIZER, writing
from benchmarks.unseen.third_4_6_editing import (
    MERGED,
    Edit,
    all_of,
    alone,
    read_json,
    setting,
    write_json,
)

BITSANDBYTES = {
    "_load_in_4bit": True,
    "_load_in_8bit": False,
    "bnb_4bit_compute_dtype": "bfloat16",
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True,
    "load_in_4bit": True,
    "load_in_8bit": False,
    "quant_method": "bitsandbytes",
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512, "rope_theta": 1000000.0}
POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:05e97791a5e007260de1db7e1692e53150e08cea481e2bf25435553380c147ee\nsize 44101\n"
)
PAGE = (
    '<?xml version="1.0" encoding="utf-8"?><Error><Code>BlobNotFound</Code>'
    "<Message>The specified blob does not exist.</Message></Error>\n"
)


def _mark_bytes(folder: Path) -> None:
    path = folder / CONFIG
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())


def _processor_value(key: str, value: object) -> Edit:
    def edit(folder: Path) -> None:
        content = read_json(folder / "processor_config.json")
        for part in ("image_processor", "video_processor"):
            content[part][key] = value
        write_json(folder / "processor_config.json", content)

    return edit


CASES: tuple[Case, ...] = (
    Case(
        "quantization_config_left_after_dequantizing",
        alone(setting(CONFIG, "quantization_config", BITSANDBYTES), MERGED),
        "The model was dequantized and saved in 16 bits, but its config still says 4 bits of bitsandbytes, by which "
        "loading fails (huggingface/transformers#34847)",
        ("quantization_config", "bitsandbytes", "quantiz"),
    ),
    Case(
        "yarn_written_over_the_whole_rope",
        alone(setting(CONFIG, "text_config.rope_parameters", YARN), with_base=True),
        "Somebody pasted YaRN over rope_parameters for a longer context, and the partial factor and the sections for "
        "pictures are gone with it (NVIDIA-NeMo/Megatron-Bridge#3077)",
        ("rope", "yarn", "partial_rotary_factor", "mrope_section"),
    ),
    Case(
        "byte_order_mark_in_config",
        alone(_mark_bytes),
        "config.json was edited in a Windows editor, which put a byte order mark before it; it is no JSON any more "
        "(ThilinaRajapakse/simpletransformers#1169)",
        ("config.json", "BOM", "byte order"),
    ),
    Case(
        "tokenizer_is_a_pointer_of_git_lfs",
        alone(writing(TOKENIZER, POINTER)),
        "The weights were fetched and the tokenizer, which is large enough for LFS too, stayed a pointer "
        "(mlc-ai/mlc-llm#1954)",
        ("tokenizer.json", "LFS", "pointer"),
    ),
    Case(
        "error_page_saved_as_template",
        alone(writing(TEMPLATE, PAGE)),
        "A download by hand saved the server's error page under the template's name; every prompt is that page "
        "(minimaxir/gpt-2-simple#263)",
        ("chat_template", "template"),
    ),
    Case(
        "stop_ids_of_the_official_release",
        alone(
            all_of(
                setting(GENERATION, "eos_token_id", [248044, 248046]),
                setting(GENERATION, "pad_token_id", 248044),
                setting(CONFIG, "text_config.eos_token_id", 248044),
            )
        ),
        "generation_config.json was copied from the official release, whose vocabulary is another; its stop ids never "
        "occur and answers run to the limit",
        ("eos_token_id", "248046", "248044", "generation_config", "stop"),
    ),
    Case(
        "sixteen_fold_pictures_for_a_four_fold_model",
        alone(
            all_of(setting(CONFIG, "downsample_mode", "16x"), _processor_value("downsample_mode", "16x")),
            with_base=True,
        ),
        "Exported with the trainer's default of 16x in config and processor, while the model was trained with four "
        "times the picture tokens; pictures are misread (modelscope/ms-swift#9334)",
        ("downsample_mode", "16x"),
    ),
    Case(
        "slices_for_a_model_without_slices",
        alone(
            all_of(_processor_value("max_slice_nums", 9), _processor_value("scale_resolution", 56)),
            with_base=True,
        ),
        "The processor's settings were changed after training to cut pictures into up to nine small slices, which the "
        "model has never seen (OpenBMB/MiniCPM-V#665)",
        ("max_slice_nums", "scale_resolution", "slice"),
    ),
)
