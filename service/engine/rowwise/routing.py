"""Says which adapter each row of a batch uses, and what the modules need to know of it.

Knows adapters by number only: 0 is the base.
"""

from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch

KEPT_MIXES = 64
"""Mixes of adapters whose tensors are kept, so that a mix that comes back finds the same ones."""


@dataclass(eq=False, slots=True)
class Columns:
    """Columns of concatenated factors; modules with the same ones share this.

    Attributes:
        spans: Adapter and width of each run of columns.
        owners: `(columns,)`, the adapter of each.
        place: Where a mix keeps its pick.
    """

    spans: tuple[tuple[int, int], ...]
    owners: torch.Tensor
    place: int


@dataclass(eq=False, slots=True)
class Pick:
    """The columns that a mix needs, in their order.

    Attributes:
        where: A slice, or indices `(picked,)`.
        owners: `(picked,)`
        hidden: `(rows, 1, picked)`, true where a column is not the row's adapter's; None if all rows need all.
    """

    where: slice | torch.Tensor
    owners: torch.Tensor
    hidden: torch.Tensor | None


@dataclass(eq=False, slots=True)
class Mix:
    """Tensors for one number of rows and one set of adapters, rewritten in place when rows change places.

    Attributes:
        active: Adapters to compute for.
        index: `(rows,)`, each row's adapter.
        picks: By `Columns.place`; None where nobody in the mix has columns.
        rows: The same as `index`.
        present: The adapters in `rows`, the base included.
        serial: Rises whenever `rows` are written.
        found: Places of an adapter's rows, see `rows_of`.
    """

    active: tuple[int, ...]
    index: torch.Tensor
    picks: list[Pick | None]
    rows: tuple[int, ...] = ()
    present: frozenset[int] = frozenset()
    serial: int = 0
    found: dict[int, torch.Tensor] = field(default_factory=dict)


class Routing:
    """Which adapter each row of the batch uses; shared by all row-wise modules.

    One thread sets it, between steps. Before the first `set`, all rows are the base's.

    Attributes:
        rows: Each row's adapter.
        mix: What the modules read; None if all rows are the base's.
        num_adapters: See the argument.

    Args:
        device: Of the model.
        num_adapters: They are numbered from 1.
    """

    def __init__(self, device: torch.device, num_adapters: int) -> None:
        self.rows: tuple[int, ...] = ()
        self.mix: Mix | None = None
        self._device = device
        self.num_adapters = num_adapters
        self._serial = 0
        self._among: frozenset[int] = frozenset()
        self._columns: dict[tuple[tuple[int, int], ...], Columns] = {}
        self._mixes: OrderedDict[tuple[int, tuple[int, ...], bool], Mix] = OrderedDict()

    def set(self, rows: Sequence[int], among: Collection[int] = ()) -> None:
        """Give each row an adapter.

        Args:
            rows: The adapter of each row, 0 for the base.
            among: Adapters to compute for even if no row has them. With the same number of rows and the same adapters
                in `rows` and `among` together, the same tensors are rewritten in place, and LoRA runs the same
                operations on them, as a CUDA graph needs. Modules and tokens of an adapter's own do not: they run for
                its rows only.

        Raises:
            ValueError: There is no such adapter.
        """
        wanted, more = tuple(rows), frozenset(among)
        if wanted == self.rows and more == self._among:
            return
        if not all(0 <= one <= self.num_adapters for one in (*wanted, *more)):
            raise ValueError(f"adapters are numbered from 1 to {self.num_adapters}, 0 is the base: {wanted}")
        self.rows, self._among = wanted, more
        active = tuple(sorted({*wanted, *more} - {0}))
        if not active:
            self.mix = None
            return
        is_uniform = not more and len(set(wanted)) == 1
        with torch.inference_mode(False), torch.no_grad():
            self.mix = self._mix(len(wanted), active, is_uniform)
            self._fill(self.mix, wanted)

    def columns(self, spans: tuple[tuple[int, int], ...]) -> Columns:
        """Return the columns of these runs; only while the tree is built."""
        if spans not in self._columns:
            owners = [adapter for adapter, width in spans for _ in range(width)]
            self._columns[spans] = Columns(spans, torch.tensor(owners, device=self._device), len(self._columns))
        return self._columns[spans]

    def _mix(self, num_rows: int, active: tuple[int, ...], is_uniform: bool) -> Mix:
        key = (num_rows, active, is_uniform)
        if key not in self._mixes:
            index = torch.empty(num_rows, dtype=torch.long, device=self._device)
            picks = [_pick(one, active, num_rows, is_uniform) for one in self._columns.values()]
            self._mixes[key] = Mix(active, index, picks)
            if len(self._mixes) > KEPT_MIXES:
                self._mixes.popitem(last=False)
        self._mixes.move_to_end(key)
        return self._mixes[key]

    def _fill(self, mix: Mix, rows: tuple[int, ...]) -> None:
        mix.index.copy_(torch.tensor(rows))
        self._serial += 1
        mix.rows, mix.present, mix.serial = rows, frozenset(rows), self._serial
        mix.found.clear()
        for pick in mix.picks:
            if pick is not None and pick.hidden is not None:
                torch.ne(mix.index[:, None, None], pick.owners, out=pick.hidden)


def rows_of(mix: Mix, adapter: int) -> torch.Tensor:
    """Return the places of an adapter's rows in the batch, `(rows of it,)`."""
    if adapter not in mix.found:
        places = [place for place, one in enumerate(mix.rows) if one == adapter]
        mix.found[adapter] = torch.tensor(places, device=mix.index.device)
    return mix.found[adapter]


def picked(spans: tuple[tuple[int, int], ...], active: tuple[int, ...]) -> slice | list[int] | None:
    """Return the columns of the active adapters: a slice if they are neighbours, None if there are none."""
    columns: list[int] = []
    start = 0
    for adapter, width in spans:
        if adapter in active:
            columns += range(start, start + width)
        start += width
    if not columns:
        return None
    is_slice = columns[-1] - columns[0] == len(columns) - 1
    return slice(columns[0], columns[-1] + 1) if is_slice else columns


def _pick(columns: Columns, active: tuple[int, ...], num_rows: int, is_uniform: bool) -> Pick | None:
    found = picked(columns.spans, active)
    if found is None:
        return None
    where = found if isinstance(found, slice) else torch.tensor(found, device=columns.owners.device)
    owners = columns.owners[where]
    shape = (num_rows, 1, len(owners))
    hidden = None if is_uniform else torch.empty(shape, dtype=torch.bool, device=owners.device)
    return Pick(where, owners, hidden)
