"""Loads base, adapters and processors into a `LoadedModel`.

Does not judge: what went wrong with one adapter is kept beside it.
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import GenerationConfig

from service.domain.facts import LoadWarning
from service.domain.judgement import MERGED
from service.engine.adapters import Mounted, MountFailed, merge, mount
from service.engine.families.family import Encoder, Family, LoadOptions
from service.engine.families.registry import find_family
from service.engine.lean import speed_up
from service.engine.load_report import caught_warnings
from service.engine.memory import free_bytes
from service.engine.probing import Probe, differs, largest_difference, relative_difference
from service.engine.quantization import quantization_difference, require_eight_bit, require_rounded
from service.errors import CheckpointUnreadable
from service.overlay import overlay
from service.wording import without_folders

LOADING_ERRORS = (
    *(OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError, ImportError),
    StrictDataclassError,
)
"""What transformers raises for folders that it cannot load; anything else is a defect."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """What to load and how.

    Attributes:
        base: The base or merged folder.
        adapters: Folders of adapters to mount, by name.
        merged_adapter: An adapter to merge into the base, or None.
        control_tokens: Tokens of the base that a client must not be able to write.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        dtype: `auto` or a key of DTYPES.
        attention: `auto` or transformers' name.
        quantization: `none`, or `int8` for weights of 8 bits where a model decodes.
    """

    base: Path
    adapters: Mapping[str, Path]
    merged_adapter: Path | None
    control_tokens: frozenset[str]
    device: str = "auto"
    dtype: str = "auto"
    attention: str = "auto"
    is_code_trusted: bool = False
    quantization: str = "none"

    @property
    def is_eight_bit(self) -> bool:
        """Say whether weights are read in 8 bits."""
        return self.quantization == "int8"


SERIALS = itertools.count(1)


@dataclass(slots=True)
class View:
    """What answers one adapter's requests, or the base's: a transformers model, and an encoder of its own.

    Attributes:
        tower: Names its vision tower; adapters that leave the base's as it is have the base's.
        serial: Names it; no other view of this process has it, so that what was computed with one is never taken for
            another's.
    """

    model: Any
    encoder: Encoder
    tower: int = 0
    serial: int = field(default_factory=lambda: next(SERIALS))


@dataclass(frozen=True, slots=True)
class MountReport:
    """What became of one adapter.

    Attributes:
        error: Why it could not be loaded, or None; the rest is empty then.
        missing_keys: See `Mounted`.
        unexpected_keys: See `Mounted`.
        effect: Largest difference of the probe's logits, with it against without it; NaN if not finite.
        effect_share: The same as a share of the largest logit without it; None if nobody measured.
        has_changed_base: The base's own logits are others than before.
        merge_difference: Of an adapter that was merged: largest difference of the probe's logits, merged against
            mounted, as a share of the largest logit; NaN if not finite. None of one that is mounted.
        quantization_difference: As `LoadedModel` has it for the base, of one that is mounted.
        warnings: What the libraries said while loading it.
    """

    error: str | None = None
    missing_keys: tuple[str, ...] = ()
    unexpected_keys: tuple[str, ...] = ()
    effect: float = 0.0
    effect_share: float | None = None
    has_changed_base: bool = False
    warnings: tuple[LoadWarning, ...] = ()
    merge_difference: float | None = None
    quantization_difference: float | None = None


@dataclass(slots=True)
class LoadedModel:
    """Everything in memory.

    Attributes:
        adapters: Views of the adapters that could be loaded.
        reports: What became of every adapter, a merged one under `MERGED`.
        warnings: What the libraries said while loading the base.
        stop_ids: Ids that end an answer.
        context_tokens: Most tokens of prompt and answer together; None if the config does not say.
        loading_info: transformers' lists of missing and unexpected tensors.
        control_tokens: Tokens that a client must not be able to write.
        quantization_difference: Largest difference of the probe's logits, with weights of 8 bits against those that
            they were rounded from, as a share of the largest logit; NaN if not finite. None without such weights.
    """

    family: Family
    base: View
    adapters: dict[str, View]
    reports: dict[str, MountReport]
    warnings: tuple[LoadWarning, ...]
    device: torch.device
    dtype: torch.dtype
    stop_ids: tuple[int, ...]
    context_tokens: int | None
    loading_info: Mapping[str, Any] = field(default_factory=dict)
    control_tokens: frozenset[str] = frozenset()
    quantization_difference: float | None = None

    def view(self, adapter_id: str | None) -> View:
        """Return what answers for an adapter, or for the base."""
        return self.base if adapter_id is None else self.adapters[adapter_id]

    def drop(self, adapter_id: str) -> None:
        """Forget an adapter and free its memory."""
        self.adapters.pop(adapter_id, None)

    def describe(self) -> dict[str, str]:
        """Return device, dtype, quantization and family as strings."""
        dtype = str(self.dtype).removeprefix("torch.")
        quantization = "none" if self.quantization_difference is None else "int8"
        return {
            "device": str(self.device),
            "dtype": dtype,
            "quantization": quantization,
            "family": self.family.name,
        }


def load(plan: LoadPlan) -> LoadedModel:
    """Load a plan.

    Raises:
        CheckpointUnsupported: No family serves the model.
        CheckpointUnreadable: The base, its processor, or the adapter to merge cannot be loaded, the base cannot be
            asked a question, there is no such device, or it cannot compute with weights of 8 bits.
    """
    config = json.loads((plan.base / "config.json").read_text(encoding="utf-8"))
    family = find_family(config, is_code_trusted=plan.is_code_trusted)
    device = choose_device(plan.device)
    dtype = choose_dtype(plan.dtype, device, config)
    if plan.is_eight_bit:
        require_eight_bit(device, dtype)
    attention = None if plan.attention == "auto" else plan.attention
    options = LoadOptions(device, dtype, attention, plan.is_code_trusted)
    reports: dict[str, MountReport] = {}
    with caught_warnings() as warnings:
        base, info = _load_base(plan, family, options, reports)
    speed_up(base.model, free_bytes(device), is_eight_bit=plan.is_eight_bit)
    if plan.is_eight_bit:
        require_rounded(base.model)
    stop_ids = _stop_ids(base.model, base.encoder.tokenizer, family.stop_tokens)
    base.model.generation_config = _bare_generation_config(base.model, stop_ids)
    probe, before = _first_answer(plan, family, base, device)
    adapters = {}
    for adapter_id, folder in plan.adapters.items():
        view, reports[adapter_id] = _load_adapter(plan, family, options, base, folder, probe, before)
        if view:
            adapters[adapter_id] = view
    return LoadedModel(
        family=family,
        base=base,
        adapters=adapters,
        reports=reports,
        warnings=tuple(warnings),
        device=device,
        dtype=dtype,
        stop_ids=stop_ids,
        context_tokens=getattr(base.model.config.get_text_config(), "max_position_embeddings", None),
        loading_info=info,
        control_tokens=plan.control_tokens,
        quantization_difference=quantization_difference(probe, base.model, before),
    )


def choose_device(name: str) -> torch.device:
    """Turn a setting into a device.

    Raises:
        CheckpointUnreadable: The device is not there.
    """
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    device = torch.device("cuda:0" if name == "cuda" else name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise CheckpointUnreadable(
            f"device {name} is not there: this machine has {torch.cuda.device_count()} GPU(s); "
            "set MINICPM_DEVICE to auto or cpu"
        )
    return device


def choose_dtype(name: str, device: torch.device, config: Mapping[str, Any]) -> torch.dtype:
    """Turn a setting into a dtype; `auto` is the stored one on a GPU and float32 on a CPU."""
    if name != "auto":
        return DTYPES[name]
    return torch.float32 if device.type == "cpu" else stored_dtype(config)


def stored_dtype(config: Mapping[str, Any]) -> torch.dtype:
    """Return the dtype that config.json names; bfloat16 if it names none that is served."""
    text = config.get("text_config") or {}
    named = config.get("dtype") or config.get("torch_dtype") or text.get("dtype")
    return DTYPES.get(str(named), torch.bfloat16)


def cast(model: Any, dtype: torch.dtype) -> None:
    """Cast a float32 model as `from_pretrained` would have loaded it: buffers and some parameters stay float32.

    Which ones, only private attributes of transformers tell; a test compares with a direct load.
    """
    kept = set(getattr(model, "_keep_in_fp32_modules_strict", None) or ())
    if dtype is torch.float16:
        kept |= set(getattr(model, "_keep_in_fp32_modules", None) or ())
    for name, one in model.named_parameters():
        if one.is_floating_point() and not any(part in name for part in kept):
            one.data = one.data.to(dtype)


def _load_base(
    plan: LoadPlan, family: Family, options: LoadOptions, reports: dict[str, MountReport]
) -> tuple[View, dict[str, Any]]:
    try:
        if plan.merged_adapter is None:
            model, info = family.load_model(plan.base, options)
            return View(model, family.load_encoder(plan.base, plan.control_tokens, options, model)), info
        exact = replace(options, dtype=torch.float32, device=torch.device("cpu"))
        model, info = family.load_model(plan.base, exact)
        view, reports[MERGED] = _merge(plan, family, exact, model, plan.merged_adapter)
        cast(view.model, options.dtype)
        view.model.to(options.device)
        return view, info
    except MountFailed as error:
        raise CheckpointUnreadable(f"the adapter cannot be merged into {plan.base.name}: {error}") from error
    except LOADING_ERRORS as error:
        raise CheckpointUnreadable(f"{plan.base.name} cannot be loaded: {reason_of(error)}") from error


def _first_answer(plan: LoadPlan, family: Family, base: View, device: torch.device) -> tuple[Probe, torch.Tensor]:
    """Ask the base a question and keep its logits, which adapters are compared with."""
    try:
        probe = Probe(family, base.encoder, device)
        return probe, probe.logits(base.model)
    except LOADING_ERRORS as error:
        raise CheckpointUnreadable(f"{plan.base.name} cannot be asked a question: {reason_of(error)}") from error


def _merge(plan: LoadPlan, family: Family, options: LoadOptions, model: Any, folder: Path) -> tuple[View, MountReport]:
    """Merge in float32 and compare logits before, mounted and merged; casting comes later, so that it blurs nothing.

    All on the CPU: twice the memory that serving takes need not fit the device.
    """
    plain = family.load_encoder(plan.base, plan.control_tokens, options, model)
    probe = Probe(family, plain, options.device)
    before = probe.logits(model)
    mounted = probe.logits(mount(model, folder).model)
    merged = merge(model, folder)
    after = probe.logits(merged.model)
    encoder = _own_encoder(plan, family, options, merged.model, folder) or plain
    report = MountReport(
        missing_keys=merged.missing_keys,
        unexpected_keys=merged.unexpected_keys,
        effect=largest_difference(before, after),
        effect_share=relative_difference(after, before),
        merge_difference=relative_difference(after, mounted),
    )
    return View(merged.model, encoder), report


def _load_adapter(
    plan: LoadPlan,
    family: Family,
    options: LoadOptions,
    base: View,
    folder: Path,
    probe: Probe,
    before: torch.Tensor,
) -> tuple[View | None, MountReport]:
    """Mount an adapter and compare its logits, and the base's own again, with `before`, the base's first ones."""
    with caught_warnings() as warnings:
        try:
            mounted: Mounted = mount(base.model, folder)
            encoder = _own_encoder(plan, family, options, mounted.model, folder) or base.encoder
        except MountFailed as error:
            return None, MountReport(str(error), warnings=tuple(warnings))
        except LOADING_ERRORS as error:
            reason = f"its tokenizer files do not fit the processor: {reason_of(error)}"
            return None, MountReport(reason, warnings=tuple(warnings))
    with_adapter = probe.logits(mounted.model)
    report = MountReport(
        missing_keys=mounted.missing_keys,
        unexpected_keys=mounted.unexpected_keys,
        effect=largest_difference(before, with_adapter),
        effect_share=relative_difference(with_adapter, before),
        has_changed_base=differs(before, probe.logits(base.model)),
        warnings=tuple(warnings),
        quantization_difference=quantization_difference(probe, mounted.model, with_adapter),
    )
    return _view(mounted.model, encoder, base.model), report


def _view(model: Any, encoder: Encoder, base: Any) -> View:
    """Make an adapter's view; its vision tower is its own if any parameter beside the language model is."""
    view = View(model, encoder)
    shared = {id(one) for one in base.parameters()}
    language = (model.get_decoder(), model.get_input_embeddings(), model.get_output_embeddings())
    known = shared | {id(one) for part in language if part is not None for one in part.parameters()}
    if any(id(one) not in known for one in model.parameters()):
        view.tower = view.serial
    return view


def reason_of(error: Exception) -> str:
    """Return the kind and the first two lines of an error, without folders; transformers puts the value second."""
    lines = [line.strip() for line in (str(error).strip() or repr(error)).splitlines()]
    return f"{type(error).__name__}: {without_folders(' '.join(lines[:2]))[:400]}"


def _own_encoder(plan: LoadPlan, family: Family, options: LoadOptions, model: Any, adapter: Path) -> Encoder | None:
    """Load the processor with the adapter's own tokenizer files laid over the base's; None if it has none."""
    with overlay(plan.base, adapter) as folder:
        return family.load_encoder(folder, plan.control_tokens, options, model) if folder else None


def _bare_generation_config(model: Any, stop_ids: tuple[int, ...]) -> GenerationConfig:
    """Keep stop and padding ids only: `generate` fills what a request leaves open from the model's own config.

    A checkpoint's beams, minimum lengths or time limits would otherwise reach every request unseen.
    """
    pad_id = model.generation_config.pad_token_id
    return GenerationConfig(
        eos_token_id=list(stop_ids) or None,
        pad_token_id=pad_id if isinstance(pad_id, int) and pad_id >= 0 else next(iter(stop_ids), 0),
    )


def _stop_ids(model: Any, tokenizer: Any, more: Sequence[str]) -> tuple[int, ...]:
    """Return what the checkpoint says ends an answer, and the ids of the tokens that do so in its family."""
    ids = model.generation_config.eos_token_id
    if ids is None:
        ids = model.config.get_text_config().eos_token_id
    listed = ids if isinstance(ids, list | tuple) else [] if ids is None else [int(ids)]
    vocabulary = tokenizer.get_vocab() if more else {}
    return tuple(dict.fromkeys((*listed, *(vocabulary[one] for one in more if one in vocabulary))))
