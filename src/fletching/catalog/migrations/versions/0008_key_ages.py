"""Let old idempotency keys be found without looking at all of them."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds an index."""
    op.create_index("ix_change_keys_created_at", "change_keys", ["created_at"])
