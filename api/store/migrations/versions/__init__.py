"""One module for each revision of the schema; a published one is never changed."""
