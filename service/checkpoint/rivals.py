"""Finds weights that lie in a folder twice, as one file and as an index's shards, with different values.

Does not know which of the two was meant.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from service.checkpoint.comparing import change
from service.checkpoint.weights import WHOLE, WeightFiles, shard_files


def rival_tensors(folder: Path, index: Mapping[str, Any], loaded: WeightFiles) -> tuple[str, ...]:
    """Name the tensors that an index's shards hold otherwise than the whole file, which transformers reads instead.

    Shards that are not there are no rivals: an index alone changes nothing. Casts count as equal.
    """
    if not (folder / WHOLE).is_file() or not loaded.tensors:
        return ()
    shards = WeightFiles([path for path in shard_files(folder, index) if path.is_file() and path.name != WHOLE])
    return tuple(
        name
        for name in shards.tensors
        if name in loaded.tensors
        and (shards.tensors[name].shape != loaded.tensors[name].shape or change(loaded, name, shards, name) is not None)
    )
