"""Triggers of virtual machines."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create their table."""
    op.create_table(
        "vm_trigger",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("vm_id", sa.Integer(), nullable=False),
        sa.Column("datasource", sa.String(length=32), nullable=False),
        sa.Column("device_type", sa.String(length=16), nullable=False),
        sa.Column("device_number", sa.Integer(), nullable=False),
        sa.Column("min_value", sa.Integer(), nullable=True),
        sa.Column("max_value", sa.Integer(), nullable=True),
        sa.Column("duration", sa.Integer(), nullable=False),
        sa.Column("recovery_duration", sa.Integer(), nullable=False),
        sa.Column("date_created", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["vm_id"], ["vm.id"], name="fk_vm_trigger_vm_id_vm"),
        sa.PrimaryKeyConstraint("id", name="pk_vm_trigger"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_vm_trigger_vm_id", "vm_trigger", ["vm_id"])
