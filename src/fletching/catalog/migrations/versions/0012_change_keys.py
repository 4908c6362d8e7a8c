"""Let changes that are known by a key be those of names, too, and be found by the statements that made them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Drops a constraint, and adds a column with an index."""
    with op.batch_alter_table("change_keys") as batch:
        batch.drop_constraint("fk_change_keys_table_id", type_="foreignkey")
        batch.add_column(sa.Column("run_id", sa.Text(), nullable=True))
    condition = sa.text("run_id IS NOT NULL")
    op.create_index(
        "ix_change_keys_run_id",
        "change_keys",
        ["run_id"],
        sqlite_where=condition,
        postgresql_where=condition,
    )
