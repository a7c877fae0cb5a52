"""What is measured about a checkpoint, before anyone judges it; one module a subject.

`CheckpointFacts` come from files, `LoadedFacts` from the model in memory. Neither knows a rule: a number that looks
wrong here is judged in `service.audit`.
"""

from service.domain.facts.blueprint import BlueprintFacts
from service.domain.facts.checkpoint import CheckpointFacts
from service.domain.facts.comparison import MergeFacts, OriginFacts, TensorMerge
from service.domain.facts.corpus import CorpusFacts, TokenExposure
from service.domain.facts.files import FileProblem, TensorFacts, ValueFacts
from service.domain.facts.folders import AdapterFacts, Attachment, BaseFacts
from service.domain.facts.inner import ChannelFacts, InnerFacts, KernelFacts, SampleFacts, VectorFacts
from service.domain.facts.likeness import FactorLikeness, MagnitudeFacts
from service.domain.facts.loaded import (
    BehaviourFacts,
    LoadedAdapterFacts,
    LoadedBaseFacts,
    LoadedFacts,
    LoadWarning,
    MissingThought,
    OpenThought,
)
from service.domain.facts.lock import Drift, LockFacts
from service.domain.facts.rearrangement import Rearrangement
from service.domain.facts.recipe import Recipe
from service.domain.facts.rows import (
    MatrixFacts,
    NamelessRow,
    NormFacts,
    PrunedFacts,
    RowFacts,
    RowHistogram,
    RowSpan,
    RowUpdate,
    Shift,
    SpareFacts,
)
from service.domain.facts.same_function import NeuronOrder, NormShift, Reader, SameFunction
from service.domain.facts.tensor_change import TensorChange
from service.domain.facts.tokenizer import (
    AddedToken,
    Contradiction,
    GoldenMismatch,
    IdClaim,
    TemplateFacts,
    TokenizerFacts,
)

__all__ = [
    "AdapterFacts",
    "AddedToken",
    "Attachment",
    "BaseFacts",
    "BehaviourFacts",
    "BlueprintFacts",
    "ChannelFacts",
    "CheckpointFacts",
    "Contradiction",
    "CorpusFacts",
    "Drift",
    "FactorLikeness",
    "FileProblem",
    "GoldenMismatch",
    "IdClaim",
    "InnerFacts",
    "KernelFacts",
    "LoadWarning",
    "LoadedAdapterFacts",
    "LoadedBaseFacts",
    "LoadedFacts",
    "LockFacts",
    "MagnitudeFacts",
    "MatrixFacts",
    "MergeFacts",
    "MissingThought",
    "NamelessRow",
    "NeuronOrder",
    "NormFacts",
    "NormShift",
    "OpenThought",
    "OriginFacts",
    "PrunedFacts",
    "Reader",
    "Rearrangement",
    "Recipe",
    "RowFacts",
    "RowHistogram",
    "RowSpan",
    "RowUpdate",
    "SameFunction",
    "SampleFacts",
    "Shift",
    "SpareFacts",
    "TemplateFacts",
    "TensorChange",
    "TensorFacts",
    "TensorMerge",
    "TokenExposure",
    "TokenizerFacts",
    "ValueFacts",
    "VectorFacts",
]
