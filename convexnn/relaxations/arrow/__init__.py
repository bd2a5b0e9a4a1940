"""The structured semidefinite solver: the dual of SDP-CERT in arrow form, with the inputs eliminated."""

from convexnn.relaxations.arrow.certifier import SDP
from convexnn.relaxations.arrow.targets import QueryResult, RowResult, bound_rows

__all__ = ["SDP", "QueryResult", "RowResult", "bound_rows"]
