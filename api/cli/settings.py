"""The settings as a command sees them: a wrong one ends it with a line that names it."""

import click
from pydantic import ValidationError

from api.settings import Settings


def load(**overrides: object) -> Settings:
    """The settings, with those `overrides` that are not None; raises `click.ClickException`."""
    try:
        return Settings(**{key: value for key, value in overrides.items() if value is not None})  # type: ignore[arg-type] # checked by pydantic
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(str(part) for part in detail['loc'])}: {detail['msg']}"
            for detail in error.errors(include_input=False)
        )
        raise click.ClickException(f"the settings are wrong: {wrong}") from None
