"""Makes tiny random checkpoints of every family, in the layout that the libraries themselves write.

They know nothing, so answers are not judged: they show that a family loads, encodes and generates.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, GenerationConfig, PreTrainedTokenizerFast

from service.demo import demo_root

TEXT = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 1024,
}
QWEN3_5_TEXT = {
    **TEXT,
    "head_dim": 32,
    "linear_key_head_dim": 32,
    "linear_value_head_dim": 32,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "layer_types": ["linear_attention", "full_attention"],
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "patch_size": 14,
    "image_size": 112,
}
SLICING = {"scale_resolution": 112, "patch_size": 14, "max_slice_nums": 4, "downsample_mode": "16x"}


def demo_tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(demo_root() / "base")


def _named_tokenizer(names: dict[str, str]) -> Any:
    """The demo's vocabulary with other named tokens and no template."""
    return PreTrainedTokenizerFast(
        tokenizer_object=demo_tokenizer().backend_tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=names,
    )


def _save(model: Any, processor: Any, folder: Path) -> Path:
    tokenizer = getattr(processor, "tokenizer", processor)
    stops = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"])
    model.generation_config = GenerationConfig(eos_token_id=stops, pad_token_id=stops[0])
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _ids(tokenizer: Any) -> dict[str, int]:
    return {
        "image_token_id": tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        "video_token_id": tokenizer.convert_tokens_to_ids("<|video_pad|>"),
    }


def minicpmv4_7(folder: Path) -> Path:
    from transformers import MiniCPMV4_7Config, MiniCPMV4_7ForConditionalGeneration, MiniCPMV4_7Processor
    from transformers.models.minicpmv4_6.image_processing_minicpmv4_6 import MiniCPMV4_6ImageProcessor
    from transformers.models.minicpmv4_6.video_processing_minicpmv4_6 import MiniCPMV4_6VideoProcessor

    tokenizer = demo_tokenizer()
    names = {"image_start_id": "<image>", "image_end_id": "</image>", "slice_start_id": "<slice>"}
    names |= {"slice_end_id": "</slice>"}
    config = MiniCPMV4_7Config(
        text_config={"model_type": "qwen3_5_text", "vocab_size": len(tokenizer) + 10, **QWEN3_5_TEXT},
        vision_config={**VISION, "insert_layer_id": 0},
        image_size=112,
        insert_layer_id=0,
        newline_id=tokenizer.encode("\n")[0],
        **{name: tokenizer.convert_tokens_to_ids(token) for name, token in names.items()},
        **_ids(tokenizer),
    )
    processor = MiniCPMV4_7Processor(
        MiniCPMV4_6ImageProcessor(**SLICING),
        MiniCPMV4_6VideoProcessor(**SLICING),
        tokenizer,
        chat_template=tokenizer.chat_template,
    )
    return _save(MiniCPMV4_7ForConditionalGeneration(config), processor, folder)


def minicpm_ocr(folder: Path) -> Path:
    from transformers import MiniCPMOcrConfig, MiniCPMOcrForConditionalGeneration, MiniCPMOcrProcessor
    from transformers.models.minicpm_ocr.image_processing_minicpm_ocr import MiniCPMOcrImageProcessor
    from transformers.models.minicpm_ocr.video_processing_minicpm_ocr import MiniCPMOcrVideoProcessor

    tokenizer = demo_tokenizer()
    config = MiniCPMOcrConfig(
        text_config={"model_type": "qwen3_5_text", "vocab_size": len(tokenizer) + 10, **QWEN3_5_TEXT},
        vision_config={**VISION, "insert_layer_id": 0},
        insert_layer_id=0,
        **_ids(tokenizer),
    )
    slicing = {**SLICING, "downsample_mode": "4x"}
    processor = MiniCPMOcrProcessor(
        MiniCPMOcrImageProcessor(**slicing),
        MiniCPMOcrVideoProcessor(**slicing),
        tokenizer,
        chat_template=tokenizer.chat_template,
    )
    return _save(MiniCPMOcrForConditionalGeneration(config), processor, folder)


def minicpm3(folder: Path) -> Path:
    from transformers import MiniCPM3Config, MiniCPM3ForCausalLM

    tokenizer = demo_tokenizer()
    config = MiniCPM3Config(
        **{**TEXT, "num_key_value_heads": 2},
        vocab_size=len(tokenizer) + 10,
        q_lora_rank=16,
        kv_lora_rank=16,
        qk_nope_head_dim=16,
        qk_rope_head_dim=16,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    return _save(MiniCPM3ForCausalLM(config), tokenizer, folder)


def llama(folder: Path) -> Path:
    """MiniCPM4 and MiniCPM5 as Llama."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = demo_tokenizer()
    config = LlamaConfig(**TEXT, vocab_size=len(tokenizer), bos_token_id=None, eos_token_id=tokenizer.eos_token_id)
    return _save(LlamaForCausalLM(config), tokenizer, folder)


def got_ocr2(folder: Path) -> Path:
    from transformers import GotOcr2Config, GotOcr2ForConditionalGeneration, GotOcr2ImageProcessor, GotOcr2Processor

    tokenizer = _named_tokenizer({})
    tokenizer.add_special_tokens({"additional_special_tokens": ["<imgpad>", "<img>", "</img>"]})
    config = GotOcr2Config(
        text_config={"model_type": "qwen2", "vocab_size": len(tokenizer), "tie_word_embeddings": True, **TEXT},
        vision_config={
            "hidden_size": 32,
            "output_channels": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 1024,
            "patch_size": 16,
            "mlp_dim": 64,
            "global_attn_indexes": [0],
            "initializer_range": 0.02,
        },
        image_token_index=tokenizer.convert_tokens_to_ids("<imgpad>"),
        image_seq_length=256,
    )
    model = GotOcr2ForConditionalGeneration(config)
    processor = GotOcr2Processor(GotOcr2ImageProcessor(size={"height": 1024, "width": 1024}), tokenizer)
    return _save(model, processor, folder)


def qwen3_5(folder: Path) -> Path:
    from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration, Qwen3VLProcessor
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor
    from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor

    tokenizer = demo_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|vision_start|>", "<|vision_end|>"]})
    config = Qwen3_5Config(
        text_config={"model_type": "qwen3_5_text", "vocab_size": len(tokenizer) + 10, **QWEN3_5_TEXT},
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 64,
            "num_position_embeddings": 64,
        },
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
        **_ids(tokenizer),
    )
    template = tokenizer.chat_template.replace("<|image_pad|>", "<|vision_start|><|image_pad|><|vision_end|>")
    tokenizer.chat_template = template
    pixels = {"size": {"shortest_edge": 32 * 32, "longest_edge": 128 * 128}, "patch_size": 16}
    processor = Qwen3VLProcessor(
        Qwen2VLImageProcessor(**pixels), tokenizer, Qwen3VLVideoProcessor(patch_size=16), chat_template=template
    )
    return _save(Qwen3_5ForConditionalGeneration(config), processor, folder)


def ernie4_5_vl(folder: Path) -> Path:
    from transformers import Ernie4_5_VLMoeConfig, Ernie4_5_VLMoeForConditionalGeneration, Ernie4_5_VLMoeProcessor
    from transformers.models.ernie4_5_vl_moe.image_processing_ernie4_5_vl_moe import Ernie4_5_VLMoeImageProcessor
    from transformers.models.ernie4_5_vl_moe.video_processing_ernie4_5_vl_moe import Ernie4_5_VLMoeVideoProcessor

    names = {
        "image_token": "<|IMAGE_PLACEHOLDER|>",
        "image_start_token": "<|IMAGE_START|>",
        "image_end_token": "<|IMAGE_END|>",
        "video_token": "<|VIDEO_PLACEHOLDER|>",
        "video_start_token": "<|VIDEO_START|>",
        "video_end_token": "<|VIDEO_END|>",
    }
    tokenizer = _named_tokenizer(names)
    template = demo_tokenizer().chat_template.replace(
        "<|image_pad|>", "<|IMAGE_START|><|IMAGE_PLACEHOLDER|><|IMAGE_END|>"
    )
    tokenizer.chat_template = template
    config = Ernie4_5_VLMoeConfig(
        text_config={
            **TEXT,
            "vocab_size": len(tokenizer) + 10,
            "moe_intermediate_size": [32, 32],
            "moe_num_experts": 4,
            "moe_k": 2,
            "moe_num_shared_experts": 1,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [5, 5, 6]},
        },
        vision_config={"depth": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2},
        **{f"{name}_id": tokenizer.convert_tokens_to_ids(token) for name, token in names.items()},
    )
    pixels = {"size": {"shortest_edge": 56 * 56, "longest_edge": 112 * 112}}
    processor = Ernie4_5_VLMoeProcessor(
        Ernie4_5_VLMoeImageProcessor(**pixels),
        tokenizer,
        Ernie4_5_VLMoeVideoProcessor(draw_on_frames=False),
        chat_template=template,
    )
    return _save(Ernie4_5_VLMoeForConditionalGeneration(config), processor, folder)


MARKERS = ("<image>", "</image>", "<slice>", "</slice>", "<image_id>", "</image_id>", "<unk>")
TURNS = """{%- for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}\
{%- endfor %}{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{%- endif %}"""
SYSTEM = """{%- if messages[0].role != 'system' %}{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}\
{%- endif %}"""
THOUGHTS = """{%- if add_generation_prompt and enable_thinking is defined %}\
{{ '<think>\n' if enable_thinking else '<think>\n\n</think>\n\n' }}{%- endif %}"""
OLDER: dict[str, tuple[str, dict[str, Any]]] = {
    "2.6": (SYSTEM + TURNS, {"rope_theta": 1e6, "use_sliding_window": False, "sliding_window": 131072}),
    "4.0": (
        TURNS,
        {
            "rope_theta": 1e4,
            "head_dim": 32,
            "rope_scaling": {
                "rope_type": "longrope",
                "factor": 1.0,
                "long_factor": [1.0 + index / 8 for index in range(16)],
                "short_factor": [1.0 + index / 8 for index in range(16)],
                "original_max_position_embeddings": 1026,
            },
        },
    ),
    "4.5": (TURNS + THOUGHTS, {"rope_theta": 1e6, "head_dim": 32, "rope_scaling": None}),
}
"""Chat template, and what config.json has beside what all three have."""


def minicpmv_older(version: str) -> Callable[[Path], Path]:
    """MiniCPM-V 2.6, 4.0 and 4.5, in the layout of the official repositories."""

    def make_older(folder: Path) -> Path:
        from service.engine.families.minicpmv.configuration import MiniCPMVConfig
        from service.engine.families.minicpmv.modeling import MiniCPMV, register

        register()
        template, more = OLDER[version]
        tokenizer = _named_tokenizer({})
        tokenizer.add_special_tokens({"additional_special_tokens": list(MARKERS)})
        tokenizer.chat_template = template
        stops = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
        config = MiniCPMVConfig(
            **{**TEXT, "hidden_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2},
            **more,
            version=float(version),
            vocab_size=len(tokenizer) + 10,
            rms_norm_eps=1e-6,
            bos_token_id=None,
            eos_token_id=stops[0],
            query_num=16,
            image_size=112,
            drop_vision_last_layer=False,
            tie_word_embeddings=False,
            slice_config={"max_slice_nums": 4, "patch_size": 14, "model_type": "minicpmv"},
            vision_config={"model_type": "siglip", **VISION},
        )
        model = MiniCPMV(config)
        for one in model.parameters():
            torch.nn.init.normal_(one, 1.0 if one.dim() == 1 else 0.0, 0.1)
        model.generation_config = GenerationConfig(eos_token_id=stops, pad_token_id=stops[1])
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        settings = {
            "image_processor_type": "MiniCPMVImageProcessor",
            "processor_class": "MiniCPMVProcessor",
            "max_slice_nums": 4,
            "scale_resolution": 112,
            "patch_size": 14,
            "use_image_id": True,
            "image_feature_size": 16,
            "im_start": "<image>",
            "im_end": "</image>",
            "slice_start": "<slice>",
            "slice_end": "</slice>",
            "unk": "<unk>",
            "im_id_start": "<image_id>",
            "im_id_end": "</image_id>",
            "slice_mode": True,
            "norm_mean": [0.5, 0.5, 0.5],
            "norm_std": [0.5, 0.5, 0.5],
            "version": 2.6,
        }
        (folder / "preprocessor_config.json").write_text(json.dumps(settings))
        return folder

    return make_older


FAMILIES: dict[str, Callable[[Path], Path]] = {
    **{f"minicpm-v-{version}": minicpmv_older(version) for version in OLDER},
    "minicpm-v-4.7": minicpmv4_7,
    "minicpm-ocr": minicpm_ocr,
    "got-ocr-2": got_ocr2,
    "image-text": qwen3_5,
    "image-text (ernie)": ernie4_5_vl,
    "causal": minicpm3,
    "causal (llama)": llama,
}


def make(name: str, folder: Path) -> Path:
    """Write a tiny checkpoint of a family; the same weights at every call."""
    torch.manual_seed(0)
    return FAMILIES[name](folder)
