"""Remember which requests created a write stream, to tell a repeated one from a new attempt."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the column."""
    op.add_column(
        "write_streams",
        sa.Column("create_traces", sa.Text(), nullable=False, server_default="[]"),
    )
