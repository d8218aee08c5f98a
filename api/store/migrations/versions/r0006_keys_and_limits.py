"""Keys that expire or only read, and what an account may have."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add their columns; the keys that there are stay what they were."""
    op.add_column("api_key", sa.Column("date_expires", sa.DateTime(), nullable=True))
    op.add_column("api_key", sa.Column("read_only", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("account", sa.Column("limits", sa.JSON(), nullable=True))
