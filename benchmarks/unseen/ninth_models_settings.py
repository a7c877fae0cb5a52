"""Broken models of the 4.6 demo: config, generation settings and processor, edited, copied or saved by others."""

from benchmarks.unseen.case import Case
from benchmarks.unseen.fourth_editing import CONFIG, GENERATION, PROCESSOR
from benchmarks.unseen.third_4_6_editing import (
    HEAD,
    MERGED,
    all_of,
    alone,
    on_json,
    on_tensors,
    setting,
)

CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


CASES: tuple[Case, ...] = (
    Case(
        "head_tied_after_merge",
        alone(
            all_of(
                setting(CONFIG, "tie_word_embeddings", True),
                setting(CONFIG, "text_config.tie_word_embeddings", True),
                on_tensors(lambda tensors: {k: v for k, v in tensors.items() if k != HEAD}),
            ),
            MERGED,
        ),
        "The merged config says tie_word_embeddings, so the saver left lm_head.weight out as a copy; it was trained "
        "apart, and with the embeddings in its place answers are noise (huggingface/transformers#45127)",
        ("tie_word_embeddings", "lm_head", "tied"),
    ),
    Case(
        "quantization_left_in_config",
        alone(
            setting(
                CONFIG,
                "quantization_config",
                {
                    "quant_method": "bitsandbytes",
                    "load_in_4bit": True,
                    "load_in_8bit": False,
                    "bnb_4bit_quant_type": "nf4",
                    "bnb_4bit_use_double_quant": True,
                    "bnb_4bit_compute_dtype": "bfloat16",
                },
            ),
            MERGED,
        ),
        "Merged to 16 bits after a tuning in 4 bits, but config.json still has the quantization_config: loaders take "
        "plain weights for packed ones, or want a library that nothing needs (unslothai/unsloth#1601)",
        ("quantization_config", "bitsandbytes", "4bit", "quantiz"),
    ),
    Case(
        "stops_at_the_end_of_documents_only",
        alone(
            all_of(
                setting(GENERATION, "eos_token_id", 748),
                setting(CONFIG, "text_config.eos_token_id", 748),
            )
        ),
        "A chat tuning of a plain base kept its eos, <|endoftext|>, in generation_config.json and config.json though "
        "answers end with <|im_end|>: they run on to the limit (modelscope/ms-swift#3113)",
        ("eos", "<|im_end|>", "750", "generation_config", "stop"),
    ),
    Case(
        "pictures_normalised_as_for_clip",
        alone(
            all_of(
                setting(PROCESSOR, "image_processor.image_mean", CLIP_MEAN),
                setting(PROCESSOR, "image_processor.image_std", CLIP_STD),
            ),
            with_base=True,
        ),
        "An exporter wrote the mean and deviation of CLIP, its own defaults, over 0.5: every picture reaches the tower "
        "in other colours (apple/coreai-models#82)",
        ("image_mean", "image_std", "normal"),
    ),
    Case(
        "picture_token_of_the_release",
        alone(setting(CONFIG, "image_token_id", 248056)),
        "config.json was repaired with values from the hub: the id of the picture token is that of the "
        "release, which this vocabulary has not, and pictures have no place to go",
        ("image_token_id", "248056", "<|image_pad|>", "751"),
    ),
    Case(
        "stretched_for_longer_prompts",
        alone(
            on_json(
                CONFIG,
                lambda content: content["text_config"]["rope_parameters"].update(rope_type="linear", factor=8.0),
            ),
            with_base=True,
        ),
        "Somebody put linear scaling with a factor of 8 into config.json for longer prompts and tuned nothing: places "
        "lie eight times closer than in training, and answers get worse (axolotl-ai-cloud/axolotl#343)",
        ("rope", "factor", "linear", "scaling"),
    ),
    Case(
        "pictures_scaled_as_in_the_release",
        alone(setting(PROCESSOR, "image_processor.scale_resolution", 448), with_base=True),
        "The processor's file was missing and was copied from the release, as is often advised: pictures are scaled "
        "to 448 where this model was trained at 112, and it names wrong things",
        ("scale_resolution", "448", "image_size", "resolution"),
    ),
)
