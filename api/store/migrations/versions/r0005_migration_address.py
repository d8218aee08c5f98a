"""Where other hosts reach a datacenter's."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add its column."""
    op.add_column("datacenter", sa.Column("migration_address", sa.String(length=253), nullable=True))
