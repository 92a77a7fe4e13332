"""Alembic runs this with the connection that `open_control` made."""

from alembic import context

from matinee.core.control import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
with context.begin_transaction():
    context.run_migrations()
