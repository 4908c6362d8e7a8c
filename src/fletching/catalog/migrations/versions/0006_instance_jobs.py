"""Keep what kind of job an instance is, and what its client submitted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the columns, and the index that pages of a project's instances are found by."""
    op.add_column("instances", sa.Column("kind", sa.Text(), nullable=False, server_default="SQL"))
    op.add_column("instances", sa.Column("source", sa.Text(), nullable=False, server_default=""))
    op.create_index("ix_instances_project", "instances", ["project_key", "created_at", "id"])
