"""The libvirt of a datacenter."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add its column."""
    op.add_column("datacenter", sa.Column("libvirt_uri", sa.String(length=255), nullable=True))
