"""What the model in memory says: loading, values, and a few forward passes.

Knows no file.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from service.domain.facts.tokenizer import IdClaim


@dataclass(frozen=True, slots=True)
class LoadWarning:
    """Something a library said while loading."""

    source: str
    """`transformers`, `peft` or `python`."""
    message: str


@dataclass(frozen=True, slots=True)
class MissingThought:
    """How answers begin behind prompts that hold no thought, and with an empty one behind these.

    Attributes:
        certainty: How likely the likeliest first token is, on average over short questions.
        certainty_behind: The same behind an empty thought.
        beginnings: The likeliest first token of each answer, as text.
        beginnings_behind: The same behind an empty thought.
    """

    certainty: float
    certainty_behind: float
    beginnings: tuple[str, ...]
    beginnings_behind: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OpenThought:
    """What a model expects behind and within finished answers that stand in a thought that prompts open.

    Attributes:
        end_probability: Of the stop ids, behind the answer that it would end its turn behind most likely.
        close_probability: Of the end of the thought, the largest anywhere.
        example: That answer.
    """

    end_probability: float
    close_probability: float
    example: str


@dataclass(frozen=True, slots=True)
class BehaviourFacts:
    """What a model did when it was asked a few fixed questions.

    Attributes:
        picture_effect: Largest difference of logits between two pictures, as a share of the largest logit; None where
            no picture can be sent.
        picture_error: Why a picture could not be answered, or None.
        end_probability: Of the stop ids behind a finished greeting; None if there is no such conversation.
        has_ended: Behind a finished answer of another form the end is likelier; None if nobody needed to ask.
        acting_tokens: Control tokens that act in a client's text.
        base_end_probability: For an adapter, the base's `end_probability`.
        certainty: The largest probability of any token anywhere in a finished greeting; None if there is none.
        base_certainty: For an adapter, the base's `certainty`.
        missing_thought: How answers begin without and with an empty thought; None where prompts hold a thought, or no
            token is one.
        open_thought: What it expects in a thought that prompts open; None where they open none, or close it.
    """

    picture_effect: float | None
    picture_error: str | None
    end_probability: float | None
    has_ended: bool | None
    acting_tokens: tuple[str, ...]
    base_end_probability: float | None = None
    certainty: float | None = None
    base_certainty: float | None = None
    missing_thought: MissingThought | None = None
    open_thought: OpenThought | None = None


@dataclass(frozen=True, slots=True)
class LoadedBaseFacts:
    """The base in memory.

    Attributes:
        is_tied: Input and output matrix share memory.
        nonfinite: Names of parameters with NaN or infinity.
        missing_tensors: Parameters that no file had; the library made them up.
        unexpected_tensors: Tensors in the files that no parameter took.
        claims: What the loaded processor says about special ids.
        is_output_finite: A probe's logits were finite.
        behaviour: What it did when asked; None if nobody asked.
        has_trained_norms: Some norm of the decoder is not as every model starts with, the same value throughout.
        quantization_difference: Largest difference of the probe's logits, with weights of 8 bits against those that
            they were rounded from, as a share of the largest logit; NaN if not finite. None without such weights.
    """

    embedding_rows: int
    is_tied: bool
    nonfinite: tuple[str, ...]
    missing_tensors: tuple[str, ...]
    unexpected_tensors: tuple[str, ...]
    claims: tuple[IdClaim, ...]
    is_output_finite: bool
    warnings: tuple[LoadWarning, ...]
    behaviour: BehaviourFacts | None = None
    has_trained_norms: bool = False
    quantization_difference: float | None = None


@dataclass(frozen=True, slots=True)
class LoadedAdapterFacts:
    """One adapter in memory.

    Attributes:
        error: What loading raised; the other facts are empty then.
        missing_keys: Adapter parameters of the model that the file did not fill.
        unexpected_keys: Tensors in the file that no module took.
        effect: Largest absolute difference of the probe's logits, adapter on against off.
        effect_share: The same as a share of the largest logit without it; None if nobody measured.
        is_output_finite: The probe's logits with the adapter were finite.
        has_changed_base: The base's own logits differ after the adapter was mounted.
        behaviour: What the base with it did when asked; None if nobody asked, or it could not be loaded.
        merge_difference: Of one that was merged at loading: largest difference of the probe's logits, merged against
            mounted in float32, as a share of the largest logit. None of one that is mounted.
        quantization_difference: As the base's, of the base with it; None of one that was merged, which is the base.
    """

    error: str | None
    missing_keys: tuple[str, ...]
    unexpected_keys: tuple[str, ...]
    effect: float
    is_output_finite: bool
    has_changed_base: bool
    warnings: tuple[LoadWarning, ...]
    behaviour: BehaviourFacts | None = None
    merge_difference: float | None = None
    quantization_difference: float | None = None
    effect_share: float | None = None


@dataclass(frozen=True, slots=True)
class LoadedFacts:
    """Base and adapters as they are in memory."""

    base: LoadedBaseFacts
    adapters: Mapping[str, LoadedAdapterFacts] = field(default_factory=dict)
