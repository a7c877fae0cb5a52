"""Judges whether the base already holds what an adapter's factors add, which then counts twice.

`adapter_config` and `adapter_lineage` say so. Knows no value of a tensor.
"""

from collections.abc import Iterator, Mapping
from statistics import median, quantiles
from typing import Any

from service.audit.check import AdapterView, Outcome, fatal
from service.domain.factors import is_of_lora
from service.domain.facts import AdapterFacts, FactorLikeness

SPLITTING = frozenset({"pissa", "olora", "corda", "loftq", "lora_ga", "milora"})
MIN_MODULES = 3
MIN_RANK = 4
"""Products of a smaller rank may be alike by chance."""
MAX_LIKENESS = 0.8
"""Medians of PiSSA's and OLoRA's factors are 0.9 to 1.0 after training, those of others between -0.25 and 0.1."""
LEAST_SHARE, MOST_SHARE = 0.5, 2.0
"""Medians are 0.9 to 1.0 where the adapter was merged, and within 0.1 of zero otherwise, also where training drove the
model to be surer or less sure of what it says: single modules then show a large share, and others none."""
MOST_SPREAD = 0.5
"""Quartiles of the shares may be off the median by this part of it."""
MOST_NOISE = 0.06
"""Of the shares' mean, if the factors had nothing to do with the weights."""
SHOWN = 3
RECORD = "merge.json"


def is_splitting(init: Any) -> bool:
    """Say whether PEFT cuts the factors' first values out of the base with this `init_lora_weights`."""
    return isinstance(init, str) and init.lower().partition("_niter")[0] in SPLITTING


def cut_out_of_the_base(config: Mapping[str, Any], adapter: AdapterFacts) -> Iterator[Outcome]:
    """Factors that were cut out of the base count twice on a base that still has what was cut out."""
    likeness = _likeness(config, adapter)
    if likeness is None or likeness <= MAX_LIKENESS:
        return
    cosines = {module: round(one.cosine, 4) for module, one in _wide(adapter).items()}
    yield fatal(
        f"the factors hold the base's own weights: a median cosine of {likeness:.2f} over {len(cosines)} modules, "
        f"first {next(iter(cosines))}, though init_lora_weights is {config.get('init_lora_weights', True)}: they were "
        "cut out of it as PiSSA does, or merged into it already",
        {"cosines": cosines, "limit": MAX_LIKENESS, "shares": _shares(adapter.factor_likeness)},
        "Factors that PiSSA or OLoRA cut out were trained on what was left; on the whole base, or on their own merge, "
        "they count twice.",
        "Write into init_lora_weights what training had, such as pissa; or serve it on the base that training left "
        "over; or save it with PEFT's path_initial_model_for_weight_conversion. If this base is the adapter's own "
        "merge, serve it without the adapter, or the adapter on the base of its training.",
    )


def merged_already(view: AdapterView, config: Mapping[str, Any]) -> Iterator[Outcome]:
    """Look for the adapter's update in the base's weights, and for the record that a merge left beside them."""
    adapter = view.adapter
    is_recorded = _is_recorded(view)
    share = _share(config, adapter)
    if share is None and not is_recorded:
        return
    evidence: dict[str, Any] = {}
    said = []
    if share is not None:
        found = _certain(adapter)
        shown = ", ".join(f"{module} {one.share:.2f}" for module, one in list(found.items())[:SHOWN])
        said.append(f"the weights of {len(found)} modules hold a median share of {share:.2f} of its update ({shown})")
        evidence |= {"shares": _shares(found), "limits": [LEAST_SHARE, MOST_SHARE]}
    if is_recorded:
        said.append(f"{RECORD} names it with the fingerprint {adapter.fingerprint}")
        evidence |= {RECORD: adapter.fingerprint}
    if same := _same_matrices(adapter):
        said.append(f"it brings {' and '.join(same)} whole, value by value the base's own")
        evidence |= {"same": same}
    yield fatal(
        f"the adapter is merged into this base already: {'; '.join(said)}",
        evidence,
        "Mounted on it, the update counts twice: answers overshoot what was trained.",
        "Serve this base without the adapter, or the adapter on the base that it was trained on. If its factors were "
        "cut out of the base as PiSSA does, write that into init_lora_weights.",
    )


def _is_recorded(view: AdapterView) -> bool:
    """Say whether the base's own record of a merge names just this adapter. Whole modules may be written twice."""
    sources = view.base.documents.get(RECORD, {}).get("from")
    adapter = sources.get("adapter") if isinstance(sources, dict) else None
    name = adapter.get("fingerprint") if isinstance(adapter, dict) else None
    return bool(name) and name == view.adapter.fingerprint and any(is_of_lora(key) for key in view.adapter.lora)


def _likeness(config: Mapping[str, Any], adapter: AdapterFacts) -> float | None:
    found = _wide(adapter)
    if is_splitting(config.get("init_lora_weights")) or len(found) < MIN_MODULES:
        return None
    return median(one.cosine for one in found.values())


def _wide(adapter: AdapterFacts) -> dict[str, FactorLikeness]:
    return {module: one for module, one in adapter.factor_likeness.items() if one.rank >= MIN_RANK}


def _share(config: Mapping[str, Any], adapter: AdapterFacts) -> float | None:
    """Return the median share of the update that the base holds, if it is the same in most modules; None otherwise."""
    found = _certain(adapter)
    likeness = _likeness(config, adapter)
    is_said = likeness is not None and likeness > MAX_LIKENESS
    if is_said or is_splitting(config.get("init_lora_weights")) or len(found) < MIN_MODULES:
        return None
    low, middle, high = quantiles([one.share for one in found.values()], n=4, method="inclusive")
    noise = median(one.noise for one in found.values()) / len(found) ** 0.5
    is_alike = low >= middle * (1 - MOST_SPREAD) and high <= middle * (1 + MOST_SPREAD)
    return middle if LEAST_SHARE <= middle <= MOST_SHARE and is_alike and noise <= MOST_NOISE else None


def _certain(adapter: AdapterFacts) -> dict[str, FactorLikeness]:
    """Leave out the modules whose share is mostly noise, as that of a matrix of two rows."""
    most = MOST_NOISE * len(adapter.factor_likeness) ** 0.5
    return {module: one for module, one in adapter.factor_likeness.items() if one.noise <= most}


def _shares(found: Mapping[str, FactorLikeness]) -> dict[str, float]:
    return {module: round(one.share, 4) for module, one in found.items()}


def _same_matrices(adapter: AdapterFacts) -> list[str]:
    """Name the vocabulary matrices that were saved whole and are the base's, which a merge leaves behind."""
    updates = {"the embeddings": adapter.embedding_update, "the head": adapter.head_update}
    return [name for name, one in updates.items() if one and one.kind == "modules_to_save" and not one.num_changed]
