"""Judges kernels whose values, or whose channels, stand in the order of another framework or model class.

Knows no origin.
"""

from collections.abc import Iterator

from service.audit.check import Outcome, fatal
from service.audit.checks.inner_wording import COPY, counted, rounded
from service.domain.facts import BaseFacts, ChannelFacts

ROUGH, SMOOTH, CLEARLY = 0.25, 0.4, 0.3
"""Correlation of neighbouring pixels: trained kernels have 0.7, such in another order at most a little, noise none."""
MATCHED = 0.3
"""Correlation of a channel's row and kernel: of the demo's layers at least 0.9, by chance 0.05 among 384 channels."""
FEWEST_CHANNELS = 256


def kernels_in_another_order(base: BaseFacts) -> Iterator[Outcome]:
    """Find kernels of pixels whose values are smooth in another order, and not in their own."""
    for name, one in base.inner.kernels.items():
        order, best = max(one.in_order.items(), key=lambda item: item[1])
        if one.smoothness > ROUGH or best < SMOOTH or best - one.smoothness < CLEARLY:
            continue
        yield fatal(
            f"the values of {name} stand in the order {order}: read so, neighbouring pixels correlate with {best:.2f}, "
            f"as they are with {one.smoothness:.2f}",
            {"tensor": name, "order": order, "correlation": rounded(one.smoothness), "in_order": rounded(best)},
            "The tower sees every patch scrambled: answers about pictures are wrong.",
            f"{COPY}, or move the values into the order (out, channels, height, width).",
        )


def rows_in_another_order(base: BaseFacts) -> Iterator[Outcome]:
    """Find projections whose rows fit the kernels behind them in another order, in every layer, and not in their own.

    Training lengthens the row and the kernel of a channel together, so that no other order fits by chance.
    """
    layers = {name: one for name, one in base.inner.channels.items() if one.num_channels >= FEWEST_CHANNELS}
    if not layers:
        return
    first, one = next(iter(layers.items()))
    for order, best in one.in_order.items():
        if all(_fits_better(each, order) for each in layers.values()):
            yield fatal(
                f"the rows of {first} stand in the order of another model class, {order}: read so, the length of a "
                f"channel's row goes with that of its kernel in conv1d (correlation {best:.2f}), as they are it does "
                f"not ({one.likeness:.2f}){_and_others(len(layers) - 1)}",
                {
                    "order": order,
                    "correlation": {name: rounded(each.likeness) for name, each in layers.items()},
                    "in_order": {name: rounded(each.in_order[order]) for name, each in layers.items()},
                },
                "Linear attention takes keys and values for queries, and the reverse: answers are garbage.",
                f"{COPY}, or move the rows into the order: all queries, all keys, all values.",
            )
            return


def _fits_better(channels: ChannelFacts, order: str) -> bool:
    best = channels.in_order.get(order, 0.0)
    return best >= MATCHED and channels.likeness <= best / 2


def _and_others(count: int) -> str:
    return f"; {counted(count, 'other layer shows', 'other layers show')} the same" if count else ""
