"""Every function of MaxCompute's dialect that is known here, by name.

What each becomes stands in the modules of its kind. Names are in lower case; a name that is not here is
refused with the nearest ones.
"""

from __future__ import annotations

from fletching.errors import InvalidArgumentError
from fletching.sql.functions.aggregate_functions import AGGREGATE_FUNCTIONS
from fletching.sql.functions.collection_functions import COLLECTION_FUNCTIONS
from fletching.sql.functions.document_functions import DOCUMENT_FUNCTIONS
from fletching.sql.functions.function_calls import Function
from fletching.sql.functions.number_functions import NUMBER_FUNCTIONS, UNSEEN_FUNCTIONS
from fletching.sql.functions.text_functions import TEXT_FUNCTIONS
from fletching.sql.functions.time_functions import TIME_FUNCTIONS
from fletching.sql.parsing.near_names import did_you_mean

__all__ = ["AGGREGATES", "FOLDED", "FUNCTIONS", "ROW_MAKERS", "find_function"]

AGGREGATES: dict[str, Function] = AGGREGATE_FUNCTIONS

ROW_MAKERS = frozenset(
    {
        *("explode", "posexplode", "inline", "stack", "json_tuple", "parse_url_tuple"),
        *("keyvalue_tuple", "trans_array", "trans_cols"),
    }
)
"""Functions that make rows of a value."""

FOLDED = frozenset({"max_pt", "table_exists", "partition_exists"})
"""Functions of the catalog, which are answered before the query runs."""

FUNCTIONS: dict[str, Function] = {
    **TEXT_FUNCTIONS,
    **DOCUMENT_FUNCTIONS,
    **NUMBER_FUNCTIONS,
    **TIME_FUNCTIONS,
    **COLLECTION_FUNCTIONS,
}


def find_function(name: str) -> Function:
    """Looks a function up.

    Raises:
        InvalidArgumentError: there is none; the message names the nearest.
    """
    lowered = name.lower()
    result = FUNCTIONS.get(lowered) or AGGREGATES.get(lowered) or UNSEEN_FUNCTIONS.get(lowered)
    if result is not None:
        return result
    if lowered in ROW_MAKERS:
        raise InvalidArgumentError(
            f"{lowered} makes rows: it stands in LATERAL VIEW, or by itself behind SELECT"
        )
    near = did_you_mean(lowered, [*FUNCTIONS, *AGGREGATES, *ROW_MAKERS, *FOLDED])
    raise InvalidArgumentError(f"there is no function {name[:60]}{near}")
