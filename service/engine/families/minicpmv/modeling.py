"""MiniCPM-V 2.6, 4.0 and 4.5 out of transformers' own language models and SigLIP, under the official tensor names.

Runs none of the checkpoints' code. `register` makes transformers' Auto classes know both classes within this process.
Overrides of transformers' private interfaces are here only: `_expand_inputs_for_generation`, `_init_weights`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    GenerationMixin,
    PreTrainedModel,
)
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling, CausalLMOutputWithPast

from service.domain.minicpmv import MODEL_TYPE, OTHER_SENSES, PACKS, STILL, TABLES
from service.engine.families.minicpmv.configuration import MiniCPMVConfig
from service.engine.families.minicpmv.positions import Grid
from service.engine.families.minicpmv.resampler import Resampler
from service.engine.families.minicpmv.tower import Tower
from service.engine.families.minicpmv.versions import version_of

PICTURE_INPUTS = ("pixel_values", "target_sizes", "image_bound", "temporal_ids")
Bounds = torch.Tensor | Sequence[torch.Tensor]
"""`(blocks, 2)` of all rows of a batch alike, or one such tensor for each conversation in it: the first place of each
block of features, and the place behind its last."""


class MiniCPMV(PreTrainedModel, GenerationMixin):  # type: ignore[misc]  # transformers has no types
    """A language model, `llm`, that reads pictures through a tower, `vpm`, and a resampler.

    Called with normal keywords and generates as any model of transformers.
    """

    config_class = MiniCPMVConfig
    base_model_prefix = ""
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_attention_backend = True
    _no_split_modules = ("Resampler",)
    _keys_to_ignore_on_load_unexpected = (*OTHER_SENSES, *TABLES)

    def __init__(self, config: MiniCPMVConfig) -> None:
        super().__init__(config)
        self.llm = AutoModelForCausalLM.from_config(config.text_config)
        vision = config.vision_config
        self.vpm = Tower(vision, config.vision_batch_size)
        del self.vpm.encoder.layers[config.vision_layers :]
        self.resampler = Resampler(int(config.query_num or 0), config.hidden_size, vision.hidden_size)
        self.post_init()

    def get_input_embeddings(self) -> Any:
        """Return the language model's."""
        return self.llm.get_input_embeddings()

    def set_input_embeddings(self, value: Any) -> None:
        """Set the language model's."""
        self.llm.set_input_embeddings(value)

    def get_output_embeddings(self) -> Any:
        """Return the language model's head."""
        return self.llm.get_output_embeddings()

    def set_output_embeddings(self, new_embeddings: Any) -> None:
        """Set the language model's head."""
        self.llm.set_output_embeddings(new_embeddings)

    def get_decoder(self) -> Any:
        """Return the language model without its head."""
        return self.llm.get_decoder()

    def set_decoder(self, decoder: Any) -> None:
        """Set the language model without its head."""
        self.llm.set_decoder(decoder)

    def get_encoder(self, modality: str | None = None) -> Any:
        """Return the tower for pictures, and the model itself for whatever else."""
        return self.vpm if modality in ("image", "video") else self

    def get_image_features(
        self,
        pixel_values: torch.Tensor,
        target_sizes: torch.Tensor,
        temporal_ids: Sequence[Sequence[int]] | None = None,
        return_dict: bool = True,
    ) -> Any:
        """Encode slices.

        Args:
            pixel_values: `(1, channels, patch, patch x patches of all slices)`.
            target_sizes: `(slices, 2)`, height and width of each in patches.
            temporal_ids: The moments of each group's slices, -1 for a still picture; None if there are no packs.
            return_dict: False returns a tuple.

        Returns:
            `pooler_output`, a `(query_num, hidden)` tensor for each group; `last_hidden_state`, the tower's
            `(patches, vision hidden)`.

        Raises:
            ValueError: The arguments contradict each other, or this version knows no packs.
        """
        version = version_of({"version": self.config.version})
        if temporal_ids is not None and version != PACKS and any(list(one) != [STILL] for one in temporal_ids):
            raise ValueError(
                f"temporal_ids: MiniCPM-V {version} knows no packs of frames, only {PACKS} does; "
                "send each frame as a picture of its own"
            )
        grids: list[Grid] = [(int(height), int(width)) for height, width in target_sizes.tolist()]
        patches = self.vpm(pixel_values, grids)
        blocks = self.resampler(patches, grids, temporal_ids)
        output = BaseModelOutputWithPooling(last_hidden_state=patches, pooler_output=list(blocks))
        return output if return_dict else output.to_tuple()

    def embed(self, input_ids: torch.Tensor, features: Sequence[torch.Tensor], image_bound: Bounds) -> torch.Tensor:
        """Embed ids and put features in their places, whatever ids are there.

        Args:
            input_ids: `(rows, tokens)`.
            features: `(query_num, hidden)` each, in the order of the bounds.
            image_bound: See `Bounds`.

        Returns:
            `(rows, tokens, hidden)`.

        Raises:
            ValueError: The bounds do not fit the ids or the features.
        """
        embeds = self.get_input_embeddings()(input_ids)
        if not len(features):
            return embeds  # type: ignore[no-any-return]
        places = _places(image_bound, (input_ids.shape[0], input_ids.shape[1]), [len(one) for one in features])
        rows, columns, order = (torch.tensor(one, device=embeds.device) for one in zip(*places, strict=True))
        flat = torch.cat(list(features)).to(embeds)
        return embeds.index_put((rows, columns), flat[order])  # type: ignore[no-any-return]

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        target_sizes: torch.Tensor | None = None,
        image_bound: Bounds | None = None,
        temporal_ids: Sequence[Sequence[int]] | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Compute logits, `(rows, tokens, vocabulary)`.

        Args:
            input_ids: `(rows, tokens)`.
            pixel_values: See `get_image_features`; the slices of all rows, row after row.
            target_sizes: See `get_image_features`.
            image_bound: See `Bounds`; of B rows and n tensors, B / n rows behind one another share a tensor.
            temporal_ids: See `get_image_features`.
            attention_mask: As the language model takes it, like the rest.
            position_ids: `(rows, tokens)`.
            past_key_values: The cache.
            inputs_embeds: Instead of ids, if there are no pictures.
            labels: Shifted by the language model.
            use_cache: Whether to fill one.
            logits_to_keep: 0 for all.
            **kwargs: For the language model.

        Raises:
            ValueError: There are pictures, but no ids or no bounds.
        """
        if pixel_values is not None:
            if input_ids is None or target_sizes is None or image_bound is None:
                raise ValueError("pixel_values needs input_ids, target_sizes and image_bound beside it")
            features = self.get_image_features(pixel_values, target_sizes, temporal_ids).pooler_output
            inputs_embeds, input_ids = self.embed(input_ids, features, image_bound), None
        return self.llm(
            input_ids=input_ids,
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            labels=labels,
            use_cache=use_cache,
            logits_to_keep=logits_to_keep,
            **kwargs,
        )

    def prepare_inputs_for_generation(
        self,
        input_ids: torch.Tensor,
        inputs_embeds: torch.Tensor | None = None,
        is_first_iteration: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Give pictures to the first step only; the cache holds them afterwards.

        `generate` takes `inputs_embeds` of a model only if they are named here.
        """
        pictures = {name: kwargs.pop(name) for name in PICTURE_INPUTS if name in kwargs}
        inputs: dict[str, Any] = super().prepare_inputs_for_generation(
            input_ids, inputs_embeds=inputs_embeds, is_first_iteration=is_first_iteration, **kwargs
        )
        return inputs | (pictures if is_first_iteration or not kwargs.get("use_cache", True) else {})

    def _expand_inputs_for_generation(
        self, expand_size: int = 1, is_encoder_decoder: bool = False, input_ids: Any = None, **kwargs: Any
    ) -> tuple[Any, dict[str, Any]]:
        """Repeat rows for beams, but not their pictures: rows of one conversation share them."""
        pictures = {name: kwargs.pop(name) for name in PICTURE_INPUTS if name in kwargs}
        ids, rest = super()._expand_inputs_for_generation(expand_size, is_encoder_decoder, input_ids, **kwargs)
        return ids, rest | pictures

    @torch.no_grad()
    def _init_weights(self, module: Any) -> None:
        """Start the resampler's own matrices; transformers starts everything else."""
        super()._init_weights(module)
        if isinstance(module, Resampler):
            for one in (module.query, module.proj):
                init.normal_(one, mean=0.0, std=self.config.initializer_range)


def register() -> None:
    """Make `AutoConfig` and the Auto models know `model_type` minicpmv; calling it again changes nothing.

    An `auto_map` in the folder is then not followed: a class that transformers knows comes first.
    """
    AutoConfig.register(MODEL_TYPE, MiniCPMVConfig, exist_ok=True)
    for auto in (AutoModel, AutoModelForCausalLM, AutoModelForImageTextToText):
        auto.register(MiniCPMVConfig, MiniCPMV, exist_ok=True)


def _places(bounds: Bounds, shape: tuple[int, int], sizes: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return row, column and number of the feature for every place that one takes."""
    each = [bounds] if isinstance(bounds, torch.Tensor) else list(bounds)
    blocks = [(number, int(start), int(end)) for number, one in enumerate(each) for start, end in one.tolist()]
    if len(blocks) != len(sizes) or shape[0] % len(each):
        raise ValueError(
            f"image_bound has {len(blocks)} blocks of {len(each)} conversations, for {len(sizes)} features in "
            f"{shape[0]} rows"
        )
    share, first = shape[0] // len(each), 0
    places: list[tuple[int, int, int]] = []
    for (number, start, end), size in zip(blocks, sizes, strict=True):
        if end - start != size or start < 0 or end > shape[1]:
            raise ValueError(
                f"image_bound: a block of {size} features is to go to the places {start} to {end} of {shape[1]}; "
                "a prompt that was cut off within a picture cannot be computed"
            )
        rows = range(number * share, (number + 1) * share)
        places += [(row, start + offset, first + offset) for row in rows for offset in range(size)]
        first += size
    return places
