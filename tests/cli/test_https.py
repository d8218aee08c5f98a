"""How the settings ask for HTTPS, and what a person is told of it."""

import subprocess
import sys
from pathlib import Path

import click
import pytest

from api.cli.https import tls
from api.cli.settings import load
from api.cli.welcome import announce, welcome
from api.settings import Settings
from api.wire.tls import read


def test_plain_http_unless_told_otherwise(tmp_path: Path) -> None:
    settings = Settings(state=tmp_path)
    assert (tls(settings), settings.scheme) == (None, "http")


def test_files_of_ones_own(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    settings = load(state=tmp_path, tls={"cert": cert, "key": key})
    asked = tls(settings)
    assert asked is not None
    assert (asked.cert, asked.key, settings.scheme) == (cert, key, "https")


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"cert": "a"}, "cert and key belong together: name both files"),
        ({"key": "a"}, "cert and key belong together: name both files"),
        ({"cert": "a", "key": "b", "self_signed": True}, "leave out cert and key"),
        ({"names": ["a b"]}, "tls.names.0"),
    ],
)
def test_what_does_not_fit_together(tmp_path: Path, wrong: dict[str, object], reason: str) -> None:
    with pytest.raises(click.ClickException, match=reason):
        load(state=tmp_path, tls=wrong)


def test_the_commands_options_win_over_the_settings(tmp_path: Path) -> None:
    refused = subprocess.run(
        [sys.executable, "-m", "api.cli", "serve", "--tls-self-signed"],
        env={"HYPERVISOR_STATE": str(tmp_path), "HYPERVISOR_TLS__CERT": "a", "HYPERVISOR_TLS__KEY": "b"},
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (refused.returncode, "leave out cert and key" in refused.stderr) == (1, True)


def test_one_that_is_made_has_the_names_of_the_service(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = load(
        state=tmp_path, listen="0.0.0.0:443 192.0.2.7:443", public_url="https://cloud.example/x",
        tls={"self_signed": True, "names": ("vm.example", "2001:db8::1")},
    )  # fmt: skip
    made = tls(settings)
    assert made is not None
    made.open()
    shown = read(tmp_path / "tls-cert.pem")
    wanted = {"localhost", "127.0.0.1", "::1", "192.0.2.7", "cloud.example", "vm.example", "2001:db8::1"}
    assert wanted <= shown.names
    assert "0.0.0.0" not in shown.names
    (tmp_path / "apikey").write_text("secret\n")
    announce(settings, "192.0.2.7:443")
    said = capsys.readouterr().out
    assert "https://192.0.2.7:443/xmlrpc/" in said
    assert shown.fingerprint in said
    assert "secret" not in said
    welcome(settings, "192.0.2.7:443")
    said = capsys.readouterr().out
    assert f'context=ssl.create_default_context(cafile="{tmp_path}/tls-cert.pem")' in said
    assert "--cacert" in said
    compile(said[said.index("import pathlib") : said.index("\nEND")], "welcome", "exec")
