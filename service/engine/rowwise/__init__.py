"""One tree for all adapters: every row of a decode step has its own."""

from service.engine.rowwise.building import RowWise, row_wise
from service.engine.rowwise.routing import Routing

__all__ = ["Routing", "RowWise", "row_wise"]
