"""The configuration of MiniCPM-V 2.6, 4.0 and 4.5 for transformers, read from and written to the official flat layout.

Knows no weights. In a flat config.json the language model's fields lie beside the multimodal ones; here they are a
Qwen2, Llama or Qwen3 configuration of their own, as transformers wants it.
"""

import copy
from dataclasses import fields
from typing import Any

from transformers import CONFIG_MAPPING, PreTrainedConfig, SiglipVisionConfig

from service.domain.minicpmv import LANGUAGES, MODEL_TYPE, NEEDED_OF_VISION
from service.engine.families.minicpmv.versions import refuse_unsupported, version_of

NOT_WRITTEN = frozenset({"layer_types", "rope_parameters"})
"""Of the language model: derived from other fields, or written in the older form that the official code reads."""
OLD_ROPE = ("rope_theta", "rope_scaling")
VISION_TYPE = "siglip"
"""How the official config.json names the tower; transformers calls it `siglip_vision_model`."""


def _shared(name: str) -> Any:
    """Make a property that reads and writes the language model's field."""

    def read(self: "MiniCPMVConfig") -> Any:
        return getattr(self.text_config, name)

    def write(self: "MiniCPMVConfig", value: Any) -> None:
        if value is not None or name not in ("vocab_size", "hidden_size"):
            setattr(self.text_config, name, value)

    return property(read, write, doc=f"The language model's `{name}`.")


class MiniCPMVConfig(PreTrainedConfig):  # type: ignore[misc]  # transformers has no types
    """The configuration of one model.

    Attributes:
        version: 2.6, 4.0 or 4.5; decides the language model's class.
        query_num: Features of a picture's part.
        drop_vision_last_layer: The tower lacks the last layer that `vision_config` counts. None if config.json does
            not say: then the tower is built whole, as all official checkpoints are; the official class would drop it.
        text_config: Of the language model.
        vision_config: Of the tower.
    """

    model_type = MODEL_TYPE
    keys_to_ignore_at_inference = ("past_key_values",)

    version: float | str | None = None
    query_num: int | None = None
    drop_vision_last_layer: bool | None = None
    image_size: int = 448
    patch_size: int = 14
    slice_mode: bool = True
    slice_config: dict[str, Any] | None = None
    use_image_id: bool = True
    vision_batch_size: int = 16
    batch_vision_input: bool = True
    batch_3d_resampler: bool = True
    text_config: Any = None
    vision_config: Any = None

    vocab_size = _shared("vocab_size")
    hidden_size = _shared("hidden_size")
    num_hidden_layers = _shared("num_hidden_layers")
    num_attention_heads = _shared("num_attention_heads")
    max_position_embeddings = _shared("max_position_embeddings")
    initializer_range = _shared("initializer_range")
    tie_word_embeddings = _shared("tie_word_embeddings")
    bos_token_id = _shared("bos_token_id")
    eos_token_id = _shared("eos_token_id")
    pad_token_id = _shared("pad_token_id")

    sub_configs = {"text_config": PreTrainedConfig, "vision_config": SiglipVisionConfig}  # noqa: RUF012
    """Tells transformers to hand the attention's name and the dtype on to both."""

    def __post_init__(self, **flat: Any) -> None:
        """Build both configurations out of the flat fields.

        Raises:
            CheckpointUnsupported: The fields do not say what to build.
        """
        if isinstance(self.vision_config, PreTrainedConfig):
            self.vision_config = self.vision_config.to_dict()
        own = {one.name: getattr(self, one.name) for one in fields(self)}
        refuse_unsupported({**flat, **own})
        language = CONFIG_MAPPING[LANGUAGES[version_of(own)]]
        names = {one.name for one in fields(language)} - set(own) | set(OLD_ROPE)
        text = {name: copy.deepcopy(flat.pop(name)) for name in list(flat) if name in names}
        self.text_config = language(**_sound(text))
        self.vision_config = SiglipVisionConfig(**_vision(self.vision_config))
        super().__post_init__(**flat)
        for part in (self.text_config, self.vision_config):
            part.dtype = self.dtype

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> Any:
        """Return the language model's configuration; there is no other text."""
        return self.text_config

    @property
    def vision_layers(self) -> int:
        """Layers that the tower is built with."""
        return int(self.vision_config.num_hidden_layers) - bool(self.drop_vision_last_layer)

    def to_dict(self) -> dict[str, Any]:
        """Return the flat layout."""
        own = super().to_dict()
        text, vision = own.pop("text_config"), own.pop("vision_config")
        common = {one.name for one in fields(PreTrainedConfig)}
        names = [one.name for one in fields(type(self.text_config)) if one.name not in common | NOT_WRITTEN]
        flat = {name: text[name] for name in names} | _old_rope(text.get("rope_parameters") or {})
        flat |= {name: value for name, value in own.items() if value is not None or name == "dtype"}
        defaults = SiglipVisionConfig().to_dict()
        written = [name for name in defaults if name in NEEDED_OF_VISION or vision.get(name) != defaults[name]]
        flat["vision_config"] = {name: vision[name] for name in written if name in vision}
        flat["vision_config"] |= {"model_type": VISION_TYPE}
        flat["vision_config"].pop("vision_use_head", None)
        flat["vision_config"].pop("dtype", None)
        return flat

    def to_diff_dict(self) -> dict[str, Any]:
        """Return what goes to config.json: the flat layout, whole but for what every configuration of transformers has.

        The dtype is called `torch_dtype`, as the releases of transformers know it for which the official code is.
        """
        flat = self.to_dict()
        common = PreTrainedConfig().to_dict()
        kept = ("transformers_version", "architectures", "dtype")
        flat = {name: value for name, value in flat.items() if name in kept or common.get(name, self) != value}
        flat.pop("_name_or_path", None)
        self.dict_dtype_to_str(flat)
        dtype = flat.pop("dtype", None)
        return flat | ({"torch_dtype": dtype} if dtype else {})


def _sound(text: dict[str, Any]) -> dict[str, Any]:
    """Leave out what means the same as its absence, so that transformers takes its own default for it."""
    return {name: value for name, value in text.items() if value is not None or name not in OLD_ROPE}


def _vision(given: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of the tower's configuration, which has no pooling head in these models."""
    return {**{name: one for name, one in given.items() if name != "model_type"}, "vision_use_head": False}


def _old_rope(parameters: dict[str, Any]) -> dict[str, Any]:
    """Write transformers 5's rotary parameters as `rope_theta` and `rope_scaling`."""
    scaling = {name: one for name, one in parameters.items() if name != "rope_theta"}
    is_plain = scaling.get("rope_type", "default") == "default"
    return {"rope_theta": parameters.get("rope_theta")} | ({} if is_plain else {"rope_scaling": scaling})
