"""Keep bounds of the parts of large segments; of those that are there already nothing is kept."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds a column to published and to staged segments."""
    for table in ("segments", "staged_segments"):
        op.add_column(table, sa.Column("zone_bounds", sa.LargeBinary(), nullable=True))
