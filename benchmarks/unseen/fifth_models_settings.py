"""Broken models of the fifth wave: config, generation settings and processor."""

from pathlib import Path
from typing import Any

from benchmarks.unseen.case import Case
from benchmarks.unseen.fourth_editing import CONFIG, GENERATION, PROCESSOR, TOKENIZER_CONFIG
from benchmarks.unseen.third_4_6_editing import (
    MERGED,
    Edit,
    all_of,
    alone,
    on_json,
    read_json,
    setting,
    without_files,
    write_json,
)

IN_FOUR_BITS = {
    "_load_in_4bit": True,
    "_load_in_8bit": False,
    "bnb_4bit_compute_dtype": "bfloat16",
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True,
    "load_in_4bit": True,
    "load_in_8bit": False,
    "quant_method": "bitsandbytes",
}


def _of_text_alone(folder: Path) -> None:
    """Write the text part's config over that of the whole."""
    text = read_json(folder / CONFIG)["text_config"]
    write_json(folder / CONFIG, {"architectures": ["Qwen3_5ForCausalLM"], **text})


def _both(key: str, value: Any) -> Edit:
    """Make an edit of a setting of the processor for pictures and for videos."""
    return all_of(*(setting(PROCESSOR, f"{part}.{key}", value) for part in ("image_processor", "video_processor")))


def _named_in_a_list(content: dict[str, Any]) -> None:
    """Write the named tokens as a list, so that no name is left."""
    content["extra_special_tokens"] = list(content["extra_special_tokens"].values())


def _settings_of_release(folder: Path) -> None:
    """Write the picture settings of the full-size release."""
    for part in ("image_processor", "video_processor"):
        setting(PROCESSOR, f"{part}.scale_resolution", 448)(folder)
        setting(PROCESSOR, f"{part}.max_slice_nums", 9)(folder)


CASES = (
    Case(
        "rope_theta_of_the_release",
        alone(setting(CONFIG, "text_config.rope_parameters.rope_theta", 10_000_000), with_base=True),
        "The exporter wrote the rotation's base of the full-size release instead of the one that was trained with; "
        "nothing warns, and the further back a word is the worse (Open-Athena/MarinFold#184)",
        ("rope_theta", "rope", "rotary"),
    ),
    Case(
        "quantisation_claimed_of_plain_weights",
        alone(setting(CONFIG, "quantization_config", IN_FOUR_BITS), MERGED),
        "Merged into 16 bits after 4-bit training, and the config still says that weights are packed in 4 bits "
        "(unslothai/unsloth#105)",
        ("quantization_config", "bitsandbytes", "4bit", "quantiz"),
    ),
    Case(
        "downsampling_of_model_alone",
        alone(setting(CONFIG, "downsample_mode", "16x")),
        "Only config.json was set to 16x: the model makes a quarter of the features for which the processor leaves "
        "places (lablup/mlxcel#1684)",
        ("downsample_mode", "16x", "4x"),
    ),
    Case(
        "picture_token_of_another_vocabulary",
        alone(setting(CONFIG, "image_token_id", 746)),
        "The config came from another export, and its picture id is an ordinary word here: features find no place "
        "(StarsfieldAI/R1-V#91)",
        ("image_token_id", "<|image_pad|>", "image token"),
    ),
    Case(
        "rescaling_switched_off",
        alone(_both("do_rescale", False)),
        "To silence the warning that pictures are scaled already, somebody saved `do_rescale` off; files come in with "
        "0 to 255 (vllm-project/vllm#15094)",
        ("do_rescale", "rescale", "pixel"),
    ),
    Case(
        "no_processor_in_checkpoint",
        alone(without_files(PROCESSOR)),
        "The trainer's checkpoint has weights and tokenizer but no processor settings (2U1/Qwen-VL-Series-Finetune#34)",
        ("processor_config", "preprocessor_config", "image processor"),
    ),
    Case(
        "patched_processor_class",
        alone(
            all_of(
                setting(PROCESSOR, "processor_class", "_Unsloth_Patched_MiniCPMV4_6Processor"),
                setting(TOKENIZER_CONFIG, "processor_class", "_Unsloth_Patched_MiniCPMV4_6Processor"),
            )
        ),
        "The trainer saved its own patched class as the processor's, which nothing else knows (unslothai/unsloth#4085)",
        ("processor_class", "_Unsloth_Patched", "processor_config"),
    ),
    Case(
        "end_token_of_pretraining",
        alone(
            all_of(
                setting(GENERATION, "eos_token_id", 748),
                setting(CONFIG, "text_config.eos_token_id", 748),
            ),
            MERGED,
        ),
        "Tuned from a base whose settings end at <|endoftext|>, while the turns that it learnt end with <|im_end|>: "
        "answers never stop (modelscope/ms-swift#3113)",
        ("eos_token_id", "<|im_end|>", "748"),
    ),
    Case(
        "named_tokens_in_a_list",
        alone(on_json(TOKENIZER_CONFIG, _named_in_a_list)),
        "The trainer's export wrote the special tokens as a list without their names, by which the processor finds the "
        "picture token (modelscope/ms-swift#8186)",
        ("extra_special_tokens", "image_token", "tokenizer_config"),
    ),
    Case(
        "text_config_over_whole",
        alone(_of_text_alone),
        "Tuned through the text class, whose config.json was written over that of the whole model: pictures are "
        "refused (huggingface/trl#5269)",
        ("vision", "qwen3_5_text", "picture", "image"),
    ),
    Case(
        "pictures_as_in_release",
        alone(_settings_of_release),
        "Somebody copied the processor settings of the full-size release, which enlarges pictures to four times the "
        "side that this tower was trained for and cuts them up (hiyouga/LlamaFactory#10478)",
        ("scale_resolution", "max_slice_nums", "image_size"),
    ),
)
