"""Properties of the service's own are refused in whatever spelling; everybody else's pass."""

from __future__ import annotations

import pytest

from fletching.errors import InvalidArgumentError
from fletching.sql.statements.table_properties import (
    LIFECYCLE,
    SHARD_PROPERTIES,
    check_property_names,
)


@pytest.mark.parametrize(
    "name",
    [
        LIFECYCLE,
        *SHARD_PROPERTIES.values(),
        "fletching.view.text",
        " Fletching.X",
        "FLETCHING.",
        "ﬂetching.x",
    ],
)
def test_names_of_the_service_are_refused(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="the service's own"):
        check_property_names(["transactional", name])


def test_other_names_pass() -> None:
    check_property_names([])
    check_property_names(
        ["transactional", "acid.data.retain.hours", "fletching", "x.fletching.y", ""]
    )
