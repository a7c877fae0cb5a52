"""The three official config.json, as far as they decide what is built, and what they must build.

Source: see `tests/golden/minicpmv/README.md`; 4.0's file was not to be had, its numbers are OpenBMB's own test's.
"""

import math
from typing import Any

VISION = {
    "hidden_size": 1152,
    "image_size": 980,
    "intermediate_size": 4304,
    "model_type": "siglip",
    "num_attention_heads": 16,
    "num_hidden_layers": 27,
    "patch_size": 14,
}
COMMON: dict[str, Any] = {
    "architectures": ["MiniCPMV"],
    "model_type": "minicpmv",
    "auto_map": {
        "AutoConfig": "configuration_minicpm.MiniCPMVConfig",
        "AutoModel": "modeling_minicpmv.MiniCPMV",
        "AutoModelForCausalLM": "modeling_minicpmv.MiniCPMV",
    },
    "torch_dtype": "bfloat16",
    "tie_word_embeddings": False,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "attention_dropout": 0.0,
    "use_cache": True,
    "rms_norm_eps": 1e-6,
    "batch_vision_input": True,
    "drop_vision_last_layer": False,
    "image_size": 448,
    "patch_size": 14,
    "query_num": 64,
    "slice_mode": True,
    "slice_config": {"max_slice_nums": 9, "patch_size": 14, "model_type": "minicpmv"},
    "vision_config": VISION,
}
FACTORS = [0.9977997200264581 + 30.0 / (1 + math.exp(8 - index / 4)) for index in range(64)]
CONFIGS: dict[str, dict[str, Any]] = {
    "2.6": {
        **COMMON,
        "version": 2.6,
        "vocab_size": 151666,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "max_position_embeddings": 32768,
        "rope_theta": 1000000.0,
        "bos_token_id": 151643,
        "eos_token_id": 151645,
        "sliding_window": 131072,
        "use_sliding_window": False,
        "max_window_layers": 28,
    },
    "4.0": {
        **COMMON,
        "version": 4.0,
        "vocab_size": 73448,
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 2,
        "head_dim": 128,
        "max_position_embeddings": 32768,
        "rope_theta": 10000.0,
        "rope_scaling": {
            "rope_type": "longrope",
            "factor": 1.0,
            "long_factor": FACTORS,
            "short_factor": FACTORS,
            "original_max_position_embeddings": 32786,
        },
        "bos_token_id": 1,
        "eos_token_id": [2, 73440],
        "pad_token_id": 2,
    },
    "4.5": {
        **COMMON,
        "version": 4.5,
        "vocab_size": 151748,
        "hidden_size": 4096,
        "intermediate_size": 12288,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 40960,
        "rope_theta": 1000000,
        "rope_scaling": None,
        "bos_token_id": 151643,
        "eos_token_id": 151645,
        "attention_bias": False,
        "sliding_window": None,
        "use_sliding_window": False,
        "batch_3d_resampler": True,
    },
}
COUNTS = {"2.6": 789, "4.0": 741, "4.5": 849}
SHAPES = {
    "2.6": {
        "llm.model.embed_tokens.weight": (151666, 3584),
        "llm.lm_head.weight": (151666, 3584),
        "llm.model.layers.27.self_attn.q_proj.bias": (3584,),
        "llm.model.layers.0.self_attn.k_proj.weight": (512, 3584),
        "resampler.kv_proj.weight": (3584, 1152),
    },
    "4.0": {
        "llm.model.embed_tokens.weight": (73448, 2560),
        "llm.model.layers.31.self_attn.q_proj.weight": (4096, 2560),
        "llm.model.layers.31.self_attn.o_proj.weight": (2560, 4096),
        "llm.model.layers.0.self_attn.k_proj.weight": (256, 2560),
        "resampler.proj": (2560, 2560),
    },
    "4.5": {
        "llm.lm_head.weight": (151748, 4096),
        "llm.model.layers.35.self_attn.q_norm.weight": (128,),
        "llm.model.layers.0.self_attn.k_proj.weight": (1024, 4096),
        "llm.model.layers.0.mlp.down_proj.weight": (4096, 12288),
        "resampler.attn.in_proj_weight": (12288, 4096),
    },
}
SHAPES_OF_ALL = {
    "vpm.embeddings.patch_embedding.weight": (1152, 3, 14, 14),
    "vpm.embeddings.position_embedding.weight": (4900, 1152),
    "vpm.encoder.layers.26.mlp.fc1.weight": (4304, 1152),
    "vpm.post_layernorm.bias": (1152,),
}
