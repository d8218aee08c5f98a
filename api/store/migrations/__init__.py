"""The schema's revisions, oldest first in `versions`; `api.store.schema.upgrade` runs them."""
