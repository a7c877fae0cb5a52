"""Measures a loaded model: ties, rows, values, and what became of each adapter.

Judges nothing; the numbers go to `service.audit` as `LoadedFacts`.
"""

import math
from dataclasses import replace
from typing import Any

import torch

from service.domain.facts import BehaviourFacts, IdClaim, LoadedAdapterFacts, LoadedBaseFacts, LoadedFacts
from service.engine.behaviour import observe
from service.engine.loading import LoadedModel, MountReport, View
from service.engine.probing import Probe

PIECE_VALUES = 1 << 24
"""Of a parameter, looked at together."""


def measure(loaded: LoadedModel) -> LoadedFacts:
    """Describe the base and every adapter; at most eight forward passes of the base, and five of each adapter.

    Call it before any job is admitted, from a thread that may use the device.
    """
    base = replace(_base_facts(loaded), behaviour=_observe(loaded, loaded.base, with_sizes=True))
    of_base = base.behaviour
    adapters = {}
    for adapter_id, report in loaded.reports.items():
        view = loaded.adapters.get(adapter_id)
        behaviour = _observe(loaded, view, with_sizes=False) if view and math.isfinite(report.effect) else None
        if behaviour and of_base:
            behaviour = replace(
                behaviour, base_end_probability=of_base.end_probability, base_certainty=of_base.certainty
            )
        adapters[adapter_id] = replace(_adapter_facts(report), behaviour=behaviour)
    return LoadedFacts(base, adapters)


def _observe(loaded: LoadedModel, view: View, *, with_sizes: bool) -> BehaviourFacts:
    return observe(
        view.model,
        view.encoder,
        loaded.family,
        loaded.device,
        loaded.stop_ids,
        sorted(loaded.control_tokens),
        with_sizes=with_sizes,
    )


def device_memory(device: torch.device) -> dict[str, int]:
    """Return bytes by kind: allocated, reserved and total of a GPU; nothing for a CPU."""
    if device.type != "cuda":
        return {}
    return {
        "allocated": torch.cuda.memory_allocated(device),
        "reserved": torch.cuda.memory_reserved(device),
        "total": torch.cuda.get_device_properties(device).total_memory,
    }


def _base_facts(loaded: LoadedModel) -> LoadedBaseFacts:
    model, info = loaded.base.model, loaded.loading_info
    output = Probe(loaded.family, loaded.base.encoder, loaded.device).logits(model)
    embedding = model.get_input_embeddings().weight
    head = model.get_output_embeddings()
    head_weight = head.weight if head is not None else None
    mismatched = [one[0] for one in info.get("mismatched_keys", ())]
    return LoadedBaseFacts(
        embedding_rows=int(embedding.shape[0]),
        is_tied=head_weight is not None and head_weight.data_ptr() == embedding.data_ptr(),
        nonfinite=_nonfinite(model),
        missing_tensors=tuple(sorted({*info.get("missing_keys", ()), *mismatched})),
        unexpected_tensors=tuple(sorted(info.get("unexpected_keys", ()))),
        claims=tuple(
            IdClaim(role, f"processor: {role}_id", (value,)) for role, value in loaded.base.encoder.claims().items()
        ),
        is_output_finite=bool(output.isfinite().all()),
        warnings=loaded.warnings,
        has_trained_norms=_has_trained_norms(model),
        quantization_difference=loaded.quantization_difference,
    )


def _adapter_facts(report: MountReport) -> LoadedAdapterFacts:
    is_finite = math.isfinite(report.effect)
    return LoadedAdapterFacts(
        error=report.error,
        missing_keys=report.missing_keys,
        unexpected_keys=report.unexpected_keys,
        effect=report.effect if is_finite else 0.0,
        effect_share=report.effect_share if is_finite else None,
        is_output_finite=is_finite,
        has_changed_base=report.has_changed_base,
        warnings=report.warnings,
        merge_difference=report.merge_difference,
        quantization_difference=report.quantization_difference,
    )


def _has_trained_norms(model: Any) -> bool:
    weights = [one for name, one in model.get_decoder().named_parameters() if one.dim() == 1 and "norm" in name]
    return any(bool((one != one[0]).any()) for one in weights)


def _nonfinite(model: Any) -> tuple[str, ...]:
    """Name the parameters with NaN or infinity, looking at a piece at a time: the test takes memory of its own."""
    return tuple(
        name
        for name, one in model.named_parameters()
        if one.is_floating_point()
        and not all(bool(piece.isfinite().all()) for piece in one.detach().reshape(-1).split(PIECE_VALUES))
    )
