"""Tell servers apart, and let statements be asked about and cancelled through any of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds columns; what is there was not made by a server that anybody knows."""
    for name in ("name", "url", "release"):
        op.add_column("writers", sa.Column(name, sa.Text(), nullable=False, server_default=""))
    op.add_column("instances", sa.Column("server", sa.Text(), nullable=False, server_default=""))
    op.add_column(
        "instances",
        sa.Column("cancel_asked", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
