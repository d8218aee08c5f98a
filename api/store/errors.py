"""What a person has to mend before the records can be used."""


class StoreError(Exception):
    """The records cannot be used as they are; the text says what to do."""
