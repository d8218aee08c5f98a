"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create every table."""
    op.create_table(
        "account",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("handle", sa.String(length=64), nullable=False),
        sa.Column("fullname", sa.String(length=255), nullable=False),
        sa.Column("date_created", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_account"),
        sa.UniqueConstraint("handle", name="uq_account_handle"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "datacenter",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("dc_code", sa.String(length=16), nullable=False),
        sa.Column("iso", sa.String(length=2), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("country", sa.String(length=255), nullable=False),
        sa.Column("iaas_closed_for", sa.String(length=8), nullable=False),
        sa.Column("paas_closed_for", sa.String(length=8), nullable=False),
        sa.Column("deactivate_at", sa.DateTime(), nullable=True),
        sa.Column("pool", sa.String(length=64), nullable=False),
        sa.Column("network", sa.String(length=64), nullable=False),
        sa.Column("ipv4", sa.String(length=18), nullable=False),
        sa.Column("ipv6", sa.String(length=43), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_datacenter"),
        sa.UniqueConstraint("dc_code", name="uq_datacenter_dc_code"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "job",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("workflow", sa.String(length=32), nullable=False),
        sa.Column("arguments", sa.JSON(), nullable=False),
        sa.Column("started", sa.Boolean(), nullable=False),
        sa.Column("date_created", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_job"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "api_key",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("label", sa.String(length=255), nullable=False),
        sa.Column("date_created", sa.DateTime(), nullable=False),
        sa.Column("date_revoked", sa.DateTime(), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_api_key_account_id_account"),
        sa.PrimaryKeyConstraint("id", name="pk_api_key"),
        sa.UniqueConstraint("digest", name="uq_api_key_digest"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "claim",
        sa.Column("resource", sa.String(length=32), nullable=False),
        sa.Column("job_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name="fk_claim_job_id_job"),
        sa.PrimaryKeyConstraint("resource", "job_id", name="pk_claim"),
    )
    op.create_index("ix_claim_job_id", "claim", ["job_id"])
    op.create_table(
        "operation",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.Integer(), nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("step", sa.String(length=8), nullable=False),
        sa.Column("vm_id", sa.Integer(), nullable=True),
        sa.Column("disk_id", sa.Integer(), nullable=True),
        sa.Column("iface_id", sa.Integer(), nullable=True),
        sa.Column("ip_id", sa.Integer(), nullable=True),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("params", sa.JSON(), nullable=False),
        sa.Column("last_error", sa.String(), nullable=True),
        sa.Column("errortype", sa.String(length=64), nullable=True),
        sa.Column("eta", sa.Integer(), nullable=False),
        sa.Column("date_created", sa.DateTime(), nullable=False),
        sa.Column("date_updated", sa.DateTime(), nullable=False),
        sa.Column("date_start", sa.DateTime(), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_operation_account_id_account"),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name="fk_operation_job_id_job"),
        sa.PrimaryKeyConstraint("id", name="pk_operation"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_operation_job_id", "operation", ["job_id"])
    op.create_index("ix_operation_vm_id", "operation", ["vm_id"])
    op.create_index("operation_of_account", "operation", ["account_id", "step", "id"])
    op.create_table(
        "ssh_key",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.String(length=47), nullable=False),
        sa.Column("date_created", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_ssh_key_account_id_account"),
        sa.PrimaryKeyConstraint("id", name="pk_ssh_key"),
        sa.UniqueConstraint("account_id", "name", name="uq_ssh_key_account_id_name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "vlan",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("datacenter_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("subnet", sa.String(length=18), nullable=False),
        sa.Column("gateway", sa.String(length=15), nullable=True),
        sa.Column("network", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("date_created", sa.DateTime(), nullable=False),
        sa.Column("date_updated", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_vlan_account_id_account"),
        sa.ForeignKeyConstraint(
            ["datacenter_id"], ["datacenter.id"], name="fk_vlan_datacenter_id_datacenter"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_vlan"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_vlan_account_id", "vlan", ["account_id"])
    op.create_table(
        "vm",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("datacenter_id", sa.Integer(), nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("hostname", sa.String(length=253), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("cores", sa.Integer(), nullable=False),
        sa.Column("memory", sa.Integer(), nullable=False),
        sa.Column("vm_max_memory", sa.Integer(), nullable=False),
        sa.Column("farm", sa.String(length=255), nullable=True),
        sa.Column("description", sa.String(), nullable=True),
        sa.Column("console", sa.Boolean(), nullable=False),
        sa.Column("seed", sa.JSON(), nullable=False),
        sa.Column("seed_version", sa.Integer(), nullable=False),
        sa.Column("is_migrating", sa.Boolean(), nullable=False),
        sa.Column("date_created", sa.DateTime(), nullable=False),
        sa.Column("date_updated", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_vm_account_id_account"),
        sa.ForeignKeyConstraint(["datacenter_id"], ["datacenter.id"], name="fk_vm_datacenter_id_datacenter"),
        sa.PrimaryKeyConstraint("id", name="pk_vm"),
        sa.UniqueConstraint("uuid", name="uq_vm_uuid"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_vm_account_id", "vm", ["account_id"])
    op.create_index("ix_vm_hostname", "vm", ["hostname"])
    op.create_table(
        "disk",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=True),
        sa.Column("datacenter_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("visibility", sa.String(length=16), nullable=False),
        sa.Column("label", sa.String(length=255), nullable=True),
        sa.Column("source_id", sa.Integer(), nullable=True),
        sa.Column("kernel_version", sa.String(length=64), nullable=True),
        sa.Column("kernel_cmdline", sa.JSON(), nullable=True),
        sa.Column("snapshot_profile_id", sa.Integer(), nullable=True),
        sa.Column("volume", sa.String(length=64), nullable=False),
        sa.Column("vm_id", sa.Integer(), nullable=True),
        sa.Column("position", sa.Integer(), nullable=True),
        sa.Column("access", sa.String(length=16), nullable=False),
        sa.Column("leaving", sa.Boolean(), nullable=False),
        sa.Column("schedule", sa.String(length=32), nullable=True),
        sa.Column("date_created", sa.DateTime(), nullable=False),
        sa.Column("date_updated", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_disk_account_id_account"),
        sa.ForeignKeyConstraint(
            ["datacenter_id"], ["datacenter.id"], name="fk_disk_datacenter_id_datacenter"
        ),
        sa.ForeignKeyConstraint(["vm_id"], ["vm.id"], name="fk_disk_vm_id_vm"),
        sa.PrimaryKeyConstraint("id", name="pk_disk"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_disk_account_id", "disk", ["account_id"])
    op.create_index("ix_disk_name", "disk", ["name"])
    op.create_index("ix_disk_vm_id", "disk", ["vm_id"])
    op.create_table(
        "iface",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("datacenter_id", sa.Integer(), nullable=False),
        sa.Column("vlan_id", sa.Integer(), nullable=True),
        sa.Column("mac", sa.String(length=17), nullable=False),
        sa.Column("bandwidth", sa.Double(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("vm_id", sa.Integer(), nullable=True),
        sa.Column("num", sa.Integer(), nullable=True),
        sa.Column("leaving", sa.Boolean(), nullable=False),
        sa.Column("date_created", sa.DateTime(), nullable=False),
        sa.Column("date_updated", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_iface_account_id_account"),
        sa.ForeignKeyConstraint(
            ["datacenter_id"], ["datacenter.id"], name="fk_iface_datacenter_id_datacenter"
        ),
        sa.ForeignKeyConstraint(["vlan_id"], ["vlan.id"], name="fk_iface_vlan_id_vlan"),
        sa.ForeignKeyConstraint(["vm_id"], ["vm.id"], name="fk_iface_vm_id_vm"),
        sa.PrimaryKeyConstraint("id", name="pk_iface"),
        sa.UniqueConstraint("mac", name="uq_iface_mac"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_iface_account_id", "iface", ["account_id"])
    op.create_index("ix_iface_vm_id", "iface", ["vm_id"])
    op.create_table(
        "image",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("datacenter_id", sa.Integer(), nullable=False),
        sa.Column("disk_id", sa.Integer(), nullable=False),
        sa.Column("label", sa.String(length=255), nullable=False),
        sa.Column("os_arch", sa.String(length=16), nullable=False),
        sa.Column("kernel_version", sa.String(length=64), nullable=False),
        sa.Column("visibility", sa.String(length=16), nullable=False),
        sa.Column("date_created", sa.DateTime(), nullable=False),
        sa.Column("date_updated", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["datacenter_id"], ["datacenter.id"], name="fk_image_datacenter_id_datacenter"
        ),
        sa.ForeignKeyConstraint(["disk_id"], ["disk.id"], name="fk_image_disk_id_disk"),
        sa.PrimaryKeyConstraint("id", name="pk_image"),
        sa.UniqueConstraint("datacenter_id", "label", name="uq_image_datacenter_id_label"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "ip",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("datacenter_id", sa.Integer(), nullable=False),
        sa.Column("iface_id", sa.Integer(), nullable=False),
        sa.Column("vlan_id", sa.Integer(), nullable=True),
        sa.Column("ip", sa.String(length=39), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("num", sa.Integer(), nullable=False),
        sa.Column("reverse", sa.String(length=255), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("date_created", sa.DateTime(), nullable=False),
        sa.Column("date_updated", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_ip_account_id_account"),
        sa.ForeignKeyConstraint(["datacenter_id"], ["datacenter.id"], name="fk_ip_datacenter_id_datacenter"),
        sa.ForeignKeyConstraint(["iface_id"], ["iface.id"], name="fk_ip_iface_id_iface"),
        sa.ForeignKeyConstraint(["vlan_id"], ["vlan.id"], name="fk_ip_vlan_id_vlan"),
        sa.PrimaryKeyConstraint("id", name="pk_ip"),
        sa.UniqueConstraint("vlan_id", "ip", name="uq_ip_vlan_id_ip"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_ip_account_id", "ip", ["account_id"])
    op.create_index(
        "public_ip",
        "ip",
        ["datacenter_id", "ip"],
        unique=True,
        sqlite_where=sa.text("vlan_id IS NULL"),
        postgresql_where=sa.text("vlan_id IS NULL"),
    )
    op.create_index("ix_ip_iface_id", "ip", ["iface_id"])
