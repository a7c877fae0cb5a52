"""What is measured about a checkpoint, before anyone judges it.

`CheckpointFacts` come from files, `LoadedFacts` from the model in memory. Neither knows a rule:
a number that looks wrong here is judged in `service.audit`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class TensorFacts:
    """One tensor as the file's header declares it."""

    shape: tuple[int, ...]
    dtype: str
    """safetensors' name, such as `BF16`."""
    file: str


@dataclass(frozen=True, slots=True)
class ValueFacts:
    """What the values of one tensor look like as a whole."""

    num_values: int
    num_nonfinite: int
    is_all_zero: bool


@dataclass(frozen=True, slots=True)
class RowFacts:
    """One row of a vocabulary matrix.

    Attributes:
        norm: Euclidean length.
        norm_percentile: Share of all rows that are shorter, 0 to 100.
        cosine_to_mean: With the mean of all other rows; a row left at its resize initialisation has almost exactly 1.
        cosine_to_spare: With the mean of the spare rows; None if there are too few of them.
        is_finite: No NaN and no infinity.
        digest: Hash of the stored bytes: equal digests are equal rows.
    """

    norm: float
    norm_percentile: float
    cosine_to_mean: float
    cosine_to_spare: float | None
    is_finite: bool
    digest: str


@dataclass(frozen=True, slots=True)
class SpareFacts:
    """The rows behind the tokenizer's last id: no text reaches them, so they show what an untrained row looks like.

    Source: "Fishing for Magikarp" (Land and Bartolo, 2024), section on known-unused tokens.

    Attributes:
        min_norm: Of the shortest.
        max_norm: Of the longest.
        min_cosine: With their mean, of the row that is least like it. Near 1 in output matrices, where training pushes
            all rows of tokens that are never written into one direction.
    """

    num_rows: int
    min_norm: float
    max_norm: float
    min_cosine: float


@dataclass(frozen=True, slots=True)
class MatrixFacts:
    """The input embeddings or the output head.

    Attributes:
        tensor: Name in the file.
        num_rows: First dimension: ids from 0 to num_rows - 1 can be looked up.
        digest: Hash of the stored bytes.
        values: Whole-matrix facts.
        rows: The rows that matter, by id.
        spare: The rows that no text reaches; None if there are too few.
    """

    tensor: str
    num_rows: int
    hidden_size: int
    dtype: str
    digest: str
    values: ValueFacts
    rows: Mapping[int, RowFacts]
    spare: SpareFacts | None = None


@dataclass(frozen=True, slots=True)
class AddedToken:
    """A token beside the BPE vocabulary, as `tokenizer.json` lists it."""

    token_id: int
    is_special: bool


@dataclass(frozen=True, slots=True)
class GoldenMismatch:
    """A fixed string that two readings of the same files turn into different ids."""

    text: str
    raw_ids: tuple[int, ...]
    loaded_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TokenizerFacts:
    """A tokenizer as its files say and as the library loads it.

    Attributes:
        vocabulary: Id of every token of `tokenizer.json`, added ones included.
        grown: Tokens that `tokenizer.json` lacks and loading adds, with the id that they get.
        max_id: Highest id it can produce.
        added: Added tokens by content, with the id that they really get.
        misplaced: Added tokens that `tokenizer.json` lists with another id than the one they get, with that listed id.
        named: Id by name, for `eos_token`, `pad_token`, `image_token` and the like; None if not in the vocabulary.
        texts: Token string by the same names.
        mismatches: Golden strings that the loaded tokenizer encodes differently from the raw file.
        golden: Ids of the golden strings that hold no added token.
        merges_digest: Hash of the merges, indifferent to how they are written.
    """

    vocabulary: Mapping[str, int] = field(repr=False)
    grown: Mapping[str, int]
    max_id: int
    added: Mapping[str, AddedToken]
    misplaced: Mapping[str, int]
    named: Mapping[str, int | None]
    texts: Mapping[str, str]
    mismatches: tuple[GoldenMismatch, ...]
    golden: Mapping[str, tuple[int, ...]] = field(repr=False)
    merges_digest: str


@dataclass(frozen=True, slots=True)
class TemplateFacts:
    """What the chat template emits for fixed conversations.

    Attributes:
        is_present: There is a template in any of the files that may hold one.
        control_tokens: Added tokens in the rendered text, by content.
        turn_end: The added token that follows an assistant's finished answer; None if there is none.
        turn_end_id: Its id.
        error: What rendering raised, if it did.
    """

    is_present: bool
    control_tokens: Mapping[str, int]
    turn_end: str | None
    turn_end_id: int | None
    error: str | None


@dataclass(frozen=True, slots=True)
class IdClaim:
    """One file's statement that a role is played by these ids.

    Attributes:
        role: Such as `image_token`, `eos_token`.
        source: The file and key, such as `config.json: image_token_id`.
        token_ids: The ids it names.
        token: The token string it names, if it names one.
    """

    role: str
    source: str
    token_ids: tuple[int, ...]
    token: str | None = None


@dataclass(frozen=True, slots=True)
class FileProblem:
    """A file that is missing, unreadable or unsafe, and what is wrong with it."""

    file: str
    problem: str


@dataclass(frozen=True, slots=True)
class BaseFacts:
    """The base or merged folder, read without building a model.

    Attributes:
        name: Folder name or hub id; never a path.
        model_type: From `config.json`.
        config_vocab_size: Of the text part.
        is_tied: As declared; None if the config is silent and the model class decides.
        embedding: Input matrix, or None if no tensor looks like it.
        head: Output matrix, or None if the file has none (a tied model).
    """

    name: str
    model_type: str
    fingerprint: str
    config_vocab_size: int | None
    is_tied: bool | None
    tensors: Mapping[str, TensorFacts]
    embedding: MatrixFacts | None
    head: MatrixFacts | None
    tokenizer: TokenizerFacts | None
    template: TemplateFacts | None
    claims: tuple[IdClaim, ...]
    stop_ids: tuple[int, ...]
    problems: tuple[FileProblem, ...]


@dataclass(frozen=True, slots=True)
class RowUpdate:
    """How an adapter replaces rows of one vocabulary matrix.

    Attributes:
        kind: `modules_to_save`, `trainable_tokens` or `lora`.
        num_rows: Rows of the replacing matrix, for `modules_to_save`.
        turns: How far each row that matters turns away from the base's, by id: 1 minus the cosine of old and new, so
            that rounding and weight decay, which only shrink a row, count as nothing. An id that is missing keeps its
            row. For `lora` only whether the factors touch the row, 1 or 0.
    """

    kind: str
    num_rows: int | None
    turns: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class AdapterFacts:
    """One adapter folder, read without building a model.

    Attributes:
        adapter_id: The configured name.
        peft_type: `LORA` and so on.
        ranks: Ranks that the config allows: `r` and the values of `rank_pattern`; empty if it says nothing usable.
        modules_to_save: Names in the config, sorted.
        is_tying_ensured: `ensure_weight_tying`: what is saved for one of two tied matrices is saved for both.
        trainable_tokens: Ids of `trainable_token_indices` by module name; `*` for the input embeddings.
        is_bias_trained: Biases of the base are in the file.
        lora: LoRA tensors, by key without the `base_model.model.` prefix.
        full: All other tensors, likewise.
        values: Facts about the values of every tensor, likewise.
        tokenizer: Its own tokenizer, if the folder has one.
        new_tokens: Added tokens that the base's tokenizer lacks, by content.
        foreign_copies: Tensors of the base of which the file holds a copy, as PEFT saves embeddings beside LoRA factors
            on them, that differs from the base's.
        embedding_update: What it does to input rows; None for nothing.
        head_update: What it does to output rows; None for nothing.
    """

    adapter_id: str
    name: str
    fingerprint: str
    peft_type: str
    ranks: frozenset[int]
    modules_to_save: tuple[str, ...]
    is_tying_ensured: bool
    trainable_tokens: Mapping[str, tuple[int, ...]]
    is_bias_trained: bool
    lora: Mapping[str, TensorFacts]
    full: Mapping[str, TensorFacts]
    values: Mapping[str, ValueFacts]
    tokenizer: TokenizerFacts | None
    template: TemplateFacts | None
    new_tokens: Mapping[str, int]
    embedding_update: RowUpdate | None
    head_update: RowUpdate | None
    foreign_copies: tuple[str, ...]
    problems: tuple[FileProblem, ...]


@dataclass(frozen=True, slots=True)
class CheckpointFacts:
    """Base and adapters as their files say."""

    base: BaseFacts
    adapters: Mapping[str, AdapterFacts] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LoadWarning:
    """Something a library said while loading."""

    source: str
    """`transformers`, `peft` or `python`."""
    message: str


@dataclass(frozen=True, slots=True)
class LoadedBaseFacts:
    """The base in memory.

    Attributes:
        is_tied: Input and output matrix share memory.
        num_parameters: Of all tensors, shared ones once.
        nonfinite: Names of parameters with NaN or infinity.
        all_zero: Names of weight matrices that are zero throughout.
        missing_tensors: Parameters that no file had; the library made them up.
        unexpected_tensors: Tensors in the files that no parameter took.
        claims: What the loaded processor says about special ids.
        is_output_finite: A probe's logits were finite.
    """

    embedding_rows: int
    head_rows: int | None
    is_tied: bool
    num_parameters: int
    nonfinite: tuple[str, ...]
    all_zero: tuple[str, ...]
    missing_tensors: tuple[str, ...]
    unexpected_tensors: tuple[str, ...]
    claims: tuple[IdClaim, ...]
    is_output_finite: bool
    warnings: tuple[LoadWarning, ...]


@dataclass(frozen=True, slots=True)
class LoadedAdapterFacts:
    """One adapter in memory.

    Attributes:
        error: What loading raised; the other facts are empty then.
        missing_keys: Adapter parameters of the model that the file did not fill.
        unexpected_keys: Tensors in the file that no module took.
        effect: Largest absolute difference of the probe's logits, adapter on against off.
        is_output_finite: The probe's logits with the adapter were finite.
        has_changed_base: The base's own logits differ after the adapter was mounted.
    """

    error: str | None
    missing_keys: tuple[str, ...]
    unexpected_keys: tuple[str, ...]
    effect: float
    is_output_finite: bool
    has_changed_base: bool
    warnings: tuple[LoadWarning, ...]


@dataclass(frozen=True, slots=True)
class LoadedFacts:
    """Base and adapters as they are in memory."""

    base: LoadedBaseFacts
    adapters: Mapping[str, LoadedAdapterFacts] = field(default_factory=dict)
