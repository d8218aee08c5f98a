"""The page of the methods is what the method table says."""

from pathlib import Path

from api.cli.methods import page


def test_the_page_is_fresh() -> None:
    written = Path(__file__).parents[2] / "docs" / "api.md"
    assert written.read_text() == page(), "run: hypervisor methods > docs/api.md"
