"""The units that ``hypervisor systemd`` writes, as systemd's own tool reads them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from api.cli.systemd import UNITS, units
from api.settings import Settings


def test_they_listen_where_the_settings_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPERVISOR_CONFIG", str(tmp_path / "other.toml"))
    settings = Settings(
        state=tmp_path, listen="0.0.0.0:443 [::]:443", console_listen="unix:/run/hypervisor/console"
    )
    written = units(settings)
    assert "ListenStream=0.0.0.0:443\nListenStream=[::]:443\n" in written["hypervisor.socket"]
    assert "ListenStream=/run/hypervisor/console\n" in written["hypervisor-console.socket"]
    assert f"ReadWritePaths={tmp_path}\n" in written["hypervisor.service"]
    for variable in (f"HYPERVISOR_STATE={tmp_path}", f"HYPERVISOR_CONFIG={tmp_path}/other.toml"):
        assert f"\nEnvironment={variable}\n" in written["hypervisor.service"]
    assert not any(re.search("@[A-Z]+@", text) for text in written.values())


def test_the_command_writes_them_and_systemd_takes_them(tmp_path: Path) -> None:
    folder = tmp_path / "units"
    done = subprocess.run(
        [sys.executable, "-m", "api.cli", "systemd", "--folder", folder],
        env={**os.environ, "HYPERVISOR_STATE": str(tmp_path / "state")},
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert "systemctl enable --now hypervisor.socket hypervisor-console.socket" in done.stdout
    assert {file.name for file in folder.iterdir()} == set(UNITS)
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    # as `systemctl link` would find them; the command is there in an installation
    files = [str(folder / name) for name in UNITS]
    verified = subprocess.run(
        ["systemd-analyze", "verify", *files], capture_output=True, text=True, timeout=60, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, "")
