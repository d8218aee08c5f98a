"""The published client gandi.cli, as a person runs it: a command, what it prints, its exit status."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.service.client import Client
from tests.service.guest import Identity
from tests.service.process import ROOT
from tests.service.waiting import until

ENVIRONMENTS = ROOT / ".clients"

# the client runs the first `ssh` of PATH, and OpenSSH looks for its files in the account's home, not in HOME
_SSH = """\
#!/bin/sh
exec {ssh} -F {home}/ssh_config "$@"
"""
_SSH_CONFIG = """\
BatchMode yes
ConnectTimeout 10
IdentitiesOnly yes
IdentityFile {identity}
LogLevel ERROR
StrictHostKeyChecking accept-new
UserKnownHostsFile {home}/known_hosts
"""


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit status."""

    text: str
    errors: str
    status: int

    @cached_property
    def records(self) -> list[dict[str, str]]:
        """What a list printed: records parted by dashes, of which each line is a field and its value."""
        return [
            {key.strip(): value.strip() for key, colon, value in pairs if colon}
            for pairs in (
                [line.partition(":") for line in part.splitlines()]
                for part in self.text.split("----------\n")
            )
        ]

    @property
    def fields(self) -> dict[str, str]:
        """The fields of all records together; of one that comes several times, the last."""
        return {key: value for record in self.records for key, value in record.items()}

    def column(self, key: str) -> list[str]:
        """That field of each record which has it."""
        return [record[key] for record in self.records if key in record]


class Gandi:
    """Runs gandi.cli for the account of `client`, with a new home in `folder`."""

    def __init__(self, client: Client, folder: Path, identity: Identity) -> None:
        self._client = client
        self._program = ENVIRONMENTS / "gandi.cli" / "bin" / "gandi"
        assert self._program.exists(), f"there is no {self._program}: run `make clients`"
        self.home = folder
        self.public_key = identity.file.with_suffix(".pub")
        # the client keeps the options of a creation there as the next one's defaults
        (folder / ".config" / "gandi").mkdir(parents=True)
        programs = folder / "bin"
        programs.mkdir()
        (programs / "ssh").write_text(_SSH.format(ssh=shutil.which("ssh"), home=folder))
        (programs / "ssh").chmod(0o755)
        (folder / "ssh_config").write_text(_SSH_CONFIG.format(identity=identity.file, home=folder))
        # nothing of the tests' own environment: the client takes variables for options
        self.environment = {
            "API_HOST": client.url,
            "API_KEY": client.key,
            "HOME": str(folder),
            "LC_ALL": "C.UTF-8",
            "PATH": f"{programs}:{os.environ['PATH']}",
        }

    def start(self, *arguments: object) -> "subprocess.Popen[str]":
        """Start a command; standard input, output and errors are pipes."""
        return subprocess.Popen(
            [str(self._program), *map(str, arguments)],
            cwd=self.home, env=self.environment, text=True, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def attempt(self, *arguments: object, typed: str = "", seconds: float = 120) -> Said:
        """Run a command, whatever comes of it; `typed` answers its questions."""
        with self.start(*arguments) as process:
            try:
                text, errors = process.communicate(typed, timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return Said(text, errors, process.returncode)

    def run(self, *arguments: object) -> Said:
        """Run a command; fails when it does, or complains."""
        said = self.attempt(*arguments)
        assert (said.status, said.errors) == (0, ""), f"gandi {arguments}: {said}"
        return said

    def work(self, *arguments: object) -> Said:
        """Run a command that shows a progress bar; fails unless that comes to its end."""
        said = self.run(*arguments)
        assert "100.00%" in said.text, f"gandi {arguments}: {said}"
        return said

    def background(self, *arguments: object) -> Said:
        """Run a command that does not wait, and wait until nothing is left to do."""
        said = self.run(*arguments, "--bg")
        unfinished = {"step": ["BILL", "WAIT", "RUN"]}
        until(lambda: not self._client.call("operation.list", unfinished), 60, f"gandi {arguments} is done")
        return said

    def refused(self, *arguments: object, status: int = 2) -> str:
        """Run a command that must fail with `status`; what it complains."""
        said = self.attempt(*arguments)
        assert said.status == status, f"gandi {arguments}: {said}"
        assert "Traceback" not in said.errors, said.errors
        return said.errors
