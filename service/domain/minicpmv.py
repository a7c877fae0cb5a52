"""What every room knows of MiniCPM-V 2.6, 4.0 and 4.5: what their config.json must say.

Source: the official config.json of each.
"""

MODEL_TYPE = "minicpmv"
PACKS = "4.5"
"""The version that knows packs of video frames."""
NEEDED = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
    "max_position_embeddings",
    "query_num",
    "vision_config",
)
"""Fields without which a class default, made for another size, would be taken."""
NEEDED_OF_VISION = (
    "hidden_size",
    "image_size",
    "intermediate_size",
    "num_attention_heads",
    "num_hidden_layers",
    "patch_size",
)
NEEDS_THETA = ("2.6", "4.5")
"""Their rotary base is 1e6, transformers' default 1e4, which is that of 4.0."""
HEAD_SIZE = 128
"""Of the resampler's attention, whatever the language model's is."""
