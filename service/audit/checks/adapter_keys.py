"""Check of an adapter's tensor names: does each belong to a module of the base.

Knows no shape beyond what finding a module needs; `adapter_applied` does.
"""

import re
from collections.abc import Iterator

from service.audit.check import AdapterView, Check, Outcome, fatal
from service.audit.layouts import Layout, foreign_layout, name_of, prefixes_in
from service.domain.factors import part_of

SHOWN = 3
NAMED_TYPES = frozenset({"", "LORA", "ADALORA", "TRAINABLE_TOKENS"})
OTHER = re.compile(r"\.(lora_E|token_adapter|trainable_tokens_\w+|base_layer)(\.|$)")
"""Parts that no check looks into."""
VARIANTS = ("arrow_config", "kasa_config", "monteclora_config", "velora_config", "use_bdlora", "use_qalora")
"""Settings with which LoRA has more parts."""
WHY = """\
PEFT finds the place of a tensor by its name. A name that fits no module is dropped: PEFT warns in a line of the log,
vLLM compares the last part of the name only, and the answers are the base's, or half the adapter's. Names go wrong when
the adapter was trained on another class of the same model (`llm.model.layers` of MiniCPM-V 4.5 and older,
`model.language_model.layers` of 4.6, `language_model.model.layers` of transformers 4), or when a trainer left its own
wrapper in them (`module.`, `_orig_mod.`).

Where no module of an adapter is in the base and its names are those of another family, that is said once, and what
follows from it (another tokenizer, template, rows) is not listed."""


def adapter_keys(view: AdapterView) -> Iterator[Outcome]:
    """Look for keys that PEFT does not load, and for modules that the base does not have."""
    if view.adapter.peft_type not in NAMED_TYPES:
        return  # other types name their tensors otherwise; loading says what was applied
    place = view.adapter.attachment
    total = len(view.adapter.lora) + len(view.adapter.full)
    if place.bare:
        yield fatal(
            f"{len(place.bare)} of {total} tensors have names without base_model.model. in front, first "
            f"{place.bare[0]}",
            {"tensors": list(place.bare)[:50], "count": len(place.bare), "in_file": total},
            "PEFT loads none of them: answers are the base's.",
            "Put base_model.model. in front of the names: minicpm-service repair.",
        )
        return
    yield from _parts_are_known(view)
    if not place.unknown:
        return
    if layout := foreign_layout(view.adapter, view.base):
        yield _of_another_family(view, layout)
        return
    meant = dict(list(place.meant.items())[:SHOWN])
    yield fatal(
        f"{len(place.unknown)} of {place.num_modules} modules that the adapter changes are not in the base, first "
        f"{place.unknown[0]}" + (f"; it must mean {meant[place.unknown[0]]}" if place.unknown[0] in meant else ""),
        {
            "modules": list(place.unknown)[:50],
            "count": len(place.unknown),
            "meant": dict(list(place.meant.items())[:50]),
        },
        "They are dropped while loading: answers are the base's, or between base and adapter.",
        "Rename the keys: minicpm-service repair."
        if place.meant
        else "Serve the adapter on the base that it was trained on; these names fit no module of this one.",
    )


def _of_another_family(view: AdapterView, layout: Layout) -> Outcome:
    place, base = view.adapter.attachment, name_of(view.base)
    prefixes = prefixes_in(layout, place.unknown)
    named = str(view.adapter.documents.get("adapter_config.json", {}).get("base_model_name_or_path") or "")
    last = named.rstrip("/").rpartition("/")[2]
    return fatal(
        f"this is an adapter of {layout.models} (modules {', '.join(prefixes)}), the base is {base}: it has "
        f"none of the {place.num_modules} modules",
        {"family": layout.models, "prefixes": prefixes, "base": base, "modules": list(place.unknown)[:50]},
        "Nothing of it can be applied: answers would be the base's. Its tokenizer, template and rows are not compared "
        "with this base's.",
        "Serve it on the base that it was trained on" + (f": it names {last}." if last else "."),
    )


def _parts_are_known(view: AdapterView) -> Iterator[Outcome]:
    """Look for factors under names of other libraries; variants of LoRA bring tensors of their own."""
    config = view.adapter.documents.get("adapter_config.json", {})
    foreign = [key for key in view.adapter.lora if not (part_of(key) or OTHER.search(key))]
    if not foreign or any(config.get(name) for name in VARIANTS):
        return
    yield fatal(
        f"{len(foreign)} tensors have names that PEFT gives to no part of LoRA, first {foreign[0]}",
        {"tensors": foreign[:50], "count": len(foreign)},
        "PEFT drops them without a word: answers are the base's.",
        "Rename them to lora_A and lora_B, as PEFT calls the factors.",
    )


CHECK = Check(
    "adapter_keys",
    "Every tensor names a module of the base",
    of_adapter=adapter_keys,
    takes_foreign=True,
    why=WHY,
)
