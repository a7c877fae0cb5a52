"""Broken merges of adapters, of 4.6 and 4.5."""

from pathlib import Path

from benchmarks.unseen.case import Bundle, Case
from benchmarks.unseen.fourth_editing import (
    BASE_4_5,
    CONFIG,
    GENERATION,
    TOKENIZER_CONFIG,
    merging,
)
from benchmarks.unseen.tenth_adapters_editing import JSON, OFFICIAL_4_5, TOKENS, config, merged_model
from benchmarks.unseen.third_4_6_editing import (
    ADAPTER_WEIGHTS,
    BASE,
    HEAD,
    MERGED,
    MODEL_WEIGHTS,
    Make,
    Tensors,
    all_of,
    copied,
    on_tensors,
    renamed,
    setting,
    taking,
    without_files,
    without_tensors,
    write_rows,
)

PROCESSOR = "processor_config.json"


def with_rows_of_tokens(tensors: Tensors) -> None:
    """Write the rows that the adapter `tokens` trained."""
    write_rows(tensors)


def rslora_merged_by_rank() -> Make:
    """Make a merge of a rank-stabilised adapter by another tool's scale, alpha over rank."""

    def make(parent: Path) -> Bundle:
        adapter = copied(JSON, parent, "rslora")
        config(use_rslora=True, lora_alpha=2 * 8**0.5)(adapter)
        model = copied(BASE, parent, "merged-model")
        merging(JSON, 8**-0.5)(model)
        return Bundle(model, merged_from=(BASE, adapter))

    return make


def only_the_adapter(model: Path) -> None:
    """Leave the adapter's own file where the model's weights should be."""
    without_files(MODEL_WEIGHTS)(model)
    taking(ADAPTER_WEIGHTS, JSON)(model)
    taking("adapter_config.json", JSON)(model)


def of_the_bare_class(model: Path) -> None:
    """Save as `AutoModel` does: without the head, and without the outermost name."""
    all_of(
        without_tensors(HEAD),
        renamed(lambda name: name.removeprefix("model.")),
        setting(CONFIG, "architectures", ["MiniCPMV4_6Model"]),
    )(model)


CASES: tuple[Case, ...] = (
    Case(
        "merge_that_is_the_base",
        merged_model(lambda _: None, BASE_4_5, OFFICIAL_4_5),
        "merge_and_unload and saving went through without a word, yet every weight of the folder is the base's "
        "(OpenBMB/MiniCPM-V#559).",
        ("unchanged", "identical", "not merged", "same as", "q_proj", "resampler"),
    ),
    Case(
        "merge_of_two_adapters_at_once",
        merged_model(all_of(merging(TOKENS), on_tensors(with_rows_of_tokens)), BASE, JSON, MERGED),
        "Several adapters trained apart were all merged into one base; each alone is fine, together they answer "
        "garbage (hiyouga/LlamaFactory#4421).",
        ("embed_tokens", "lm_head", "another adapter", "in_proj", "q_proj", "more than the adapter"),
    ),
    Case(
        "rslora_merged_by_alpha_over_rank",
        rslora_merged_by_rank(),
        "The converter divided by the rank whatever `use_rslora` says, so that only a third of the update went into "
        "the weights (NVIDIA/TensorRT-LLM#1669).",
        ("rslora", "scal", "times the update", "share of the update", "q_proj", "in_proj"),
    ),
    Case(
        "tied_after_new_tokens",
        merged_model(
            all_of(
                merging(TOKENS),
                on_tensors(with_rows_of_tokens),
                without_tensors(HEAD),
                setting(CONFIG, "tie_word_embeddings", True),
                setting(CONFIG, "text_config.tie_word_embeddings", True),
                taking("tokenizer.json", TOKENS),
            ),
            BASE,
            TOKENS,
        ),
        "After tokens were added and trained on both sides, the merge was saved under `tie_word_embeddings`; the head "
        "becomes the embeddings on loading and one token is repeated (huggingface/transformers#45127).",
        ("tie_word_embeddings", "tied", "lm_head", "embed_tokens"),
    ),
    Case(
        "only_the_adapter_in_the_merged_folder",
        merged_model(only_the_adapter, BASE, JSON),
        "save_pretrained_merged left the adapter's file in the folder and no weights of a model; nothing can be "
        "loaded from it (unslothai/unsloth#611).",
        ("model.safetensors", "weight file", "no weights", "adapter_model"),
    ),
    Case(
        "merged_by_the_bare_class",
        merged_model(of_the_bare_class, BASE, JSON, MERGED),
        "Merged into what AutoModel loads and saved so: the architecture is the bare model's and the head is gone, "
        "which is then started at random (OpenBMB/MiniCPM#241).",
        ("lm_head", "architectures", "MiniCPMV4_6Model"),
    ),
    Case(
        "merged_without_its_processor",
        merged_model(without_files(PROCESSOR, "tokenizer.json", TOKENIZER_CONFIG), BASE, JSON, MERGED),
        "The script saved the merged weights only, neither tokenizer nor the processing of pictures, and inference "
        "from the folder fails (2U1/Llama3.2-Vision-Finetune#5).",
        ("processor_config", "tokenizer", "preprocessor"),
    ),
    Case(
        "merged_without_config",
        merged_model(without_files(CONFIG), BASE, JSON, MERGED),
        "The folder of the merge holds weights and a tokenizer but no config.json, and no library can load it "
        "(ymcui/Chinese-LLaMA-Alpaca-2#461).",
        ("config.json",),
    ),
    Case(
        "merged_with_the_end_of_text",
        merged_model(
            all_of(
                setting(GENERATION, "eos_token_id", 748),
                setting(CONFIG, "text_config.eos_token_id", 748),
                setting(TOKENIZER_CONFIG, "eos_token", "<|endoftext|>"),
            ),
            BASE,
            JSON,
            MERGED,
        ),
        "Tuned on turns that end with `<|im_end|>` but exported with `<|endoftext|>` as the end of answers, which "
        "therefore run on to the limit (hiyouga/LlamaFactory#7454).",
        ("eos_token", "<|im_end|>", "<|endoftext|>", "748", "750"),
    ),
    Case(
        "processor_of_other_proportions",
        merged_model(setting(PROCESSOR, "image_processor.downsample_mode", "16x"), BASE, JSON, MERGED),
        "The export wrote a processor that makes another number of picture tokens than the model has features for, "
        "and generation fails (QwenLM/Qwen3-VL#162).",
        ("downsample_mode", "16x", "processor_config", "picture tokens", "image tokens"),
    ),
    Case(
        "merged_without_the_saved_modules",
        merged_model(merging(OFFICIAL_4_5), BASE_4_5, OFFICIAL_4_5),
        "So that two adapters can be combined, `modules_to_save` was given up and only the LoRA factors were merged; "
        "tower, resampler and embeddings stayed the base's (OpenBMB/MiniCPM-V#809).",
        ("resampler", "vpm", "embed_tokens", "modules_to_save"),
    ),
)
