"""A base folder and an adapter folder, read without building a model.

Knows no rule.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from service.domain.facts.blueprint import BlueprintFacts
from service.domain.facts.corpus import CorpusFacts
from service.domain.facts.files import FileProblem, TensorFacts, ValueFacts
from service.domain.facts.inner import InnerFacts
from service.domain.facts.likeness import FactorLikeness, MagnitudeFacts
from service.domain.facts.lock import LockFacts
from service.domain.facts.rearrangement import Rearrangement
from service.domain.facts.recipe import Recipe
from service.domain.facts.rows import MatrixFacts, NamelessRow, PrunedFacts, RowUpdate
from service.domain.facts.tokenizer import IdClaim, TemplateFacts, TokenizerFacts


@dataclass(frozen=True, slots=True)
class BaseFacts:
    """The base or merged folder, read without building a model.

    Attributes:
        name: Folder name or hub id; never a path.
        model_type: From `config.json`.
        config_vocab_size: Of the text part.
        is_tied: As the model class will have it, or else as declared; None if neither is known.
        embedding: Input matrix, or None if no tensor looks like it.
        head: Output matrix, or None if the file has none (a tied model).
        documents: Every JSON file that says how to use the weights, parsed, by file name; unreadable ones are empty.
        files: Size in bytes of every file of the folder, by name; subfolders are left out.
        is_native: transformers has a class of its own for the model type, so that no code of the folder is needed.
        corpus: The operator's corpus as this folder renders it; None if none was given.
        lock: What was recorded about the folder; None if nothing was.
        blueprint: What the model's class asks for; None if that is not known with certainty.
        inner: What the values of the other tensors look like.
        rivals: Tensors that lie in the folder a second time, in shards that are not read, with other values.
        nameless: The first rows behind the tokenizer's last id, ascending; empty where there is nothing to compare
            them with.
        pruned: Matrices in which rows of ordinary tokens are lost.
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
    documents: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    files: Mapping[str, int] = field(default_factory=dict, repr=False)
    is_native: bool = True
    corpus: CorpusFacts | None = None
    lock: LockFacts | None = None
    blueprint: BlueprintFacts | None = None
    inner: InnerFacts = field(default_factory=InnerFacts)
    rivals: tuple[str, ...] = ()
    nameless: tuple[NamelessRow, ...] = ()
    pruned: tuple[PrunedFacts, ...] = ()


@dataclass(frozen=True, slots=True)
class Attachment:
    """Where an adapter's tensors belong in the base.

    Attributes:
        bare: Keys without the `base_model.model.` that PEFT writes in front; it loads none of them.
        unknown: Modules that tensors belong to and the base does not have.
        meant: For these the base's modules that they must mean, if there is exactly one way to rename them all.
        num_modules: Modules that tensors belong to.
    """

    bare: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    meant: Mapping[str, str] = field(default_factory=dict)
    num_modules: int = 0


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
        repeated: Tensors that hold the very values of another one, which stands at the same place of an earlier layer,
            with that one's name.
        repeated_modules: Modules both of whose factors are another one's and not zero, with that one's name.
        embedding_update: What it does to input rows; None for nothing.
        head_update: What it does to output rows; None for nothing.
        documents: As for `BaseFacts`, `adapter_config.json` among them.
        files: As for `BaseFacts`.
        attachment: Where its tensors belong.
        corpus: As for `BaseFacts`, rendered with the adapter's own tokenizer files laid over the base's.
        lock: As for `BaseFacts`.
        saved_likeness: How alike the matrices that it saved whole are to the base's: the median cosine of rows, by
            the matrix's name.
        saved_rearranged: Of the tensors that it saved whole those that hold the base's values in another order or with
            other signs, by their name in the base.
        factor_likeness: How much of what linear factors add the base's weights already hold, by module, of a few.
        recipes: What trainers wrote beside the adapter about how it was trained.
        base_copies: Full tensors that `modules_to_save` does not name and that are the base's own, value by value.
        farthest_update: The module whose weight plain LoRA factors move farthest, and the length of its update over
            that of the weight; None if there is none, or that cannot be told of every module.
        usual_update: The median of these lengths over all modules; None likewise.
        magnitudes: How DoRA's magnitudes compare with the base's rows, by module, of a few.
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
    documents: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    files: Mapping[str, int] = field(default_factory=dict, repr=False)
    attachment: Attachment = field(default_factory=Attachment)
    repeated: Mapping[str, str] = field(default_factory=dict)
    repeated_modules: Mapping[str, str] = field(default_factory=dict)
    corpus: CorpusFacts | None = None
    lock: LockFacts | None = None
    saved_likeness: Mapping[str, float] = field(default_factory=dict)
    saved_rearranged: Mapping[str, Rearrangement] = field(default_factory=dict)
    factor_likeness: Mapping[str, FactorLikeness] = field(default_factory=dict)
    recipes: tuple[Recipe, ...] = ()
    base_copies: tuple[str, ...] = ()
    farthest_update: tuple[str, float] | None = None
    usual_update: float | None = None
    magnitudes: Mapping[str, MagnitudeFacts] = field(default_factory=dict)
