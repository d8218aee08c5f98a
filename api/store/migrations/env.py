"""Runs revisions on the connection that `api.store.schema` hands over, in its transaction."""

from alembic import context

from api.store.models import Record

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Record.metadata,
    transactional_ddl=True,  # of SQLite too: a revision that fails leaves the schema as it was
    render_as_batch=connection.dialect.name == "sqlite",  # SQLite cannot alter a column in place
)
context.run_migrations()
