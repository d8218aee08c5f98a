"""What a running job is told."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add its column."""
    op.add_column("job", sa.Column("told", sa.String(length=16), nullable=True))
