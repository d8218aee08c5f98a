"""Lines that are whole, in a file of one's own, whatever happens to it."""

import json
import os
import resource
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from api.store.journal import Journal


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines()


def test_lines_are_appended_for_the_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    for line in ("one", "two"):
        journal = Journal(file)
        journal.append(line)
        journal.close()
    assert lines(file) == ["one", "two"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_threads_and_processes_do_not_mix_their_lines(tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    program = (
        "import sys, pathlib; from api.store.journal import Journal; j = Journal(pathlib.Path(sys.argv[1]));"
        "[j.append(sys.argv[2] * 900) for _ in range(500)]"
    )
    others = [subprocess.Popen([sys.executable, "-c", program, file, letter]) for letter in "ab"]
    journal = Journal(file)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(journal.append, ["c" * 900] * 500))
    assert [one.wait() for one in others] == [0, 0]
    journal.close()
    # who opens it while another writes takes that line for a torn one, and begins with an empty one
    found = [line for line in lines(file) if line]
    assert sorted(set(found)) == [letter * 900 for letter in "abc"]
    assert len(found) == 1500


def test_a_file_that_was_moved_away_is_made_anew(tmp_path: Path) -> None:
    """What logrotate does, with `create` and without."""
    file = tmp_path / "audit.log"
    journal = Journal(file)
    journal.append("one")
    file.rename(tmp_path / "audit.log.1")
    journal.append("two")
    file.rename(tmp_path / "audit.log.2")
    file.touch(0o600)
    journal.append("three")
    journal.close()
    assert [lines(tmp_path / name) for name in ("audit.log.1", "audit.log.2", "audit.log")] == [
        ["one"], ["two"], ["three"]
    ]  # fmt: skip


def test_logrotate_itself(tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    journal = Journal(file)
    journal.append("one")
    rules = tmp_path / "rules"
    rules.write_text(f"{file} {{\n  rotate 2\n  missingok\n}}\n")
    try:
        subprocess.run(["logrotate", "--force", "--state", tmp_path / "state", rules], check=True)
    except FileNotFoundError:
        pytest.skip("logrotate is not installed")
    journal.append("two")
    journal.close()
    assert (lines(tmp_path / "audit.log.1"), lines(file)) == (["one"], ["two"])


def test_after_a_torn_line_the_next_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    file.write_text('{"whole": 1}\n{"to')
    journal = Journal(file)
    journal.append('{"whole": 2}')
    journal.close()
    assert lines(file) == ['{"whole": 1}', '{"to', '{"whole": 2}']


def test_a_full_disk_is_told_and_costs_that_line_alone(tmp_path: Path) -> None:
    """A limit on the size of files, which the kernel keeps as it does a disk's: it writes what fits."""
    file = tmp_path / "audit.log"
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            journal = Journal(file)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, 1000))
            journal.append(json.dumps(["x" * 60]))
            try:
                journal.append(json.dumps(["y" * 60]))
            except OSError:
                resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
                journal.append(json.dumps(["z" * 60]))
                status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    first, torn, last = lines(file)
    assert (json.loads(first), json.loads(last)) == (["x" * 60], ["z" * 60])
    assert torn.startswith('["y')


def test_one_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for file in (tmp_path, tmp_path / "link", tmp_path / "none" / "audit.log"):
        with pytest.raises(OSError, match=r"directory|symbolic"):
            Journal(file)
