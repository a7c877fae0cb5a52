"""Says which inner tensors answers depend on.

Knows no value of a tensor.
"""

from collections.abc import Iterator, Mapping

from service.domain.facts import BaseFacts

PICTURE_FILES = ("processor_config.json", "preprocessor_config.json")


def tensors_in_use(base: BaseFacts) -> set[str]:
    """Return the tensors that answers depend on: not those that no parameter takes, or that no picture passes."""
    unused = set(base.blueprint.unused) if base.blueprint else set()
    names = {*base.inner.vectors, *base.inner.samples} - unused
    if "4x" in (one.get("downsample_mode") for one in _settings(base)):
        names = {one for one in names if ".vit_merger." not in one}
    return names


def _settings(base: BaseFacts) -> Iterator[Mapping[str, object]]:
    for document in (base.documents.get(name, {}) for name in ("config.json", *PICTURE_FILES)):
        part = document.get("image_processor")
        yield from (document, part if isinstance(part, dict) else {})
