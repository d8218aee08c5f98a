"""A lab around a command: private, complete, gone afterwards."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from hypervisor.lab import LabError, find, run, running
from tests.lab.conftest import LAB, ROOT, Start, lab

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a lab needs root")

DOMAIN = """
<domain type='qemu'>
  <name>firmware</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <devices><serial type='pty'/></devices>
</domain>
"""

NETWORK = """
<network>
  <name>both</name><forward mode='nat'/><bridge name='virbr7'/>
  <ip address='10.77.0.1' netmask='255.255.255.0'>
    <dhcp><range start='10.77.0.2' end='10.77.0.9'/></dhcp>
  </ip>
  <ip family='ipv6' address='fd00:77::1' prefix='64'/>
</network>
"""


# what a lab must leave as it was
HOST = (
    "sort /proc/self/mountinfo; ip -brief link; nft list ruleset; cat /proc/sys/net/ipv4/ip_forward; hostname"
)


def wait_until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait for a condition to become true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not within the time"
        time.sleep(0.02)


def test_libvirt_is_empty_and_answers_at_once() -> None:
    done = lab("--", "sh", "-c", "virsh -q list --all && virsh -q pool-list --all && virsh -q uri")
    assert (done.returncode, done.stdout.split()) == (0, ["qemu:///system"])


def test_domain_runs_and_is_destroyed_quickly(tmp_path: Path) -> None:
    xml = tmp_path / "domain.xml"
    xml.write_text(DOMAIN)
    script = f"""
        virsh -q define {xml} && virsh -q start firmware && virsh -q domstate firmware
        begin=$(date +%s%N); virsh -q destroy firmware; echo took $(( ($(date +%s%N) - begin) / 1000000 ))
    """
    done = lab("--", "sh", "-c", script)
    assert "running" in done.stdout, done.stderr
    took = re.search(r"took (\d+)", done.stdout)
    # A PID 1 that reaps late makes libvirt wait two seconds for each QEMU.
    assert took is not None
    assert int(took[1]) < 1500


def test_network_with_nat_and_ipv6_starts(tmp_path: Path) -> None:
    xml = tmp_path / "network.xml"
    xml.write_text(NETWORK)
    done = lab("--", "sh", "-c", f"virsh -q net-create {xml} && ls /sys/class/net && pgrep -c dnsmasq")
    assert done.returncode == 0, done.stderr
    assert {"lo", "virbr7"} <= set(done.stdout.split())


@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 42", 42), ("kill -TERM $$", 128 + signal.SIGTERM)]
)
def test_exit_status_passes(script: str, status: int) -> None:
    assert lab("--", "sh", "-c", script).returncode == status


def test_missing_command_is_said() -> None:
    done = lab("--", "no-such-command")
    assert (done.returncode, done.stderr) == (127, "hypervisor lab: no-such-command: command not found\n")


def test_host_stays_as_it_was(tmp_path: Path) -> None:
    # a host of its own, or what other tests do at the same time would be seen as the lab's; what a lab mounts
    # in the wrong place would show in it
    host = ["unshare", "--net", "--mount", "--uts", "--propagation", "shared"]
    script = f"""
        set -e
        ip link add virbr0 type bridge; nft add table inet owned; nft add chain inet owned input
        ( {HOST} ) > {tmp_path}/before
        {shlex.join(LAB)} -- sh -c 'virsh -q net-start default; findmnt -no SOURCE /run/libvirt'
        ( {HOST} ) > {tmp_path}/after
    """
    done = subprocess.run([*host, "sh", "-c", script], cwd=ROOT, text=True, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    before = (tmp_path / "before").read_text()
    assert {"virbr0", "owned"} <= set(before.split())
    assert (tmp_path / "after").read_text() == before
    # The last one: in a lab in a lab, the outer one's folder is mounted below.
    *_, folder = re.findall(r"/(hypervisor-lab-\w+)/run", done.stdout)
    assert not Path("/var/tmp", folder).exists()


def test_listening_socket_of_the_host_answers_from_inside() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port, number = listener.getsockname()[1], listener.fileno()
        code = (
            "import functools, http.server, socket\n"
            "handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory='/sys/class/net')\n"
            "server = http.server.HTTPServer(('', 0), handler, bind_and_activate=False)\n"
            f"server.socket.close(); server.socket = socket.socket(fileno={number})\n"
            "server.handle_request()"
        )
        command = [*LAB, "--pass-fd", str(number), "--", sys.executable, "-c", code]
        with subprocess.Popen(command, pass_fds=[number], cwd=ROOT) as process:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as answer:
                body = answer.read().decode()
            assert process.wait(20) == 0
    # The lab's interfaces, not the host's.
    assert re.findall(r'href="(\w+)', body) == ["lo"]


def test_enter_joins_a_running_lab(start: Start, name: str) -> None:
    process = start("--name", name, "--hostname", "joined", "--", "sh", "-c", "echo up; read line")
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    assert name in [one.name for one in running()]
    done = lab("--name", name, "enter", "--", "sh", "-c", "hostname; pwd; virsh -q net-start default; exit 5")
    assert done.returncode == 5
    assert done.stdout.split()[:2] == ["joined", str(ROOT)]
    assert "virbr0" in lab("--name", name, "enter", "--", "ls", "/sys/class/net").stdout
    process.communicate("\n", timeout=20)
    assert lab("--name", name, "enter", "--", "true").returncode == 125


def test_socket_reaches_a_lab_from_outside(start: Start, name: str) -> None:
    process = start("--name", name, "--hostname", "reached", "--", "sh", "-c", "echo up; read line")
    assert process.stdout is not None
    process.stdout.readline()
    uri = f"qemu+unix:///system?socket={find(name).socket}"
    done = subprocess.run(["virsh", "--connect", uri, "hostname"], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["reached"]


def test_user_without_root_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(LabError, match="sudo"):
        run(["true"])


def test_two_labs_do_not_see_each_other(start: Start, name: str) -> None:
    process = start("--name", name, "--", "sh", "-c", "virsh -q net-start default; echo up; read line")
    assert process.stdout is not None
    process.stdout.readline()
    other = lab("--", "sh", "-c", "virsh -q net-list; ls /sys/class/net; hostname; pgrep -c libvirtd")
    assert "default" not in other.stdout.split()
    assert "virbr0" not in other.stdout
    assert other.stdout.split()[-1] == "1"
    assert lab("--name", name, "--", "true").returncode == 125, "the name is taken"


def test_kill_takes_everything_down(start: Start, name: str) -> None:
    marker = f"{300 + os.getpid()}.125"
    command = f"virsh -q net-start default; echo up; exec sleep {marker}"
    process = start("--name", name, "--", "sh", "-c", command)
    assert process.stdout is not None
    process.stdout.readline()
    (record,) = [one for one in running() if one.name == name]
    process.kill()
    process.wait()
    wait_until(lambda: subprocess.run(["pgrep", "-f", f"sleep {marker}"], check=False).returncode == 1)
    wait_until(lambda: name not in [one.name for one in running()])
    # The next lab takes the name and clears what was left.
    assert lab("--name", name, "--", "true").returncode == 0
    assert not Path(record.folder).exists()
    assert not Path(f"/run/hypervisor/lab/{name}.json").exists()


def test_signals_reach_the_command(start: Start) -> None:
    command = "trap 'echo caught; exit 9' TERM; echo up; while :; do sleep 0.05; done"
    process = start("--", "sh", "-c", command)
    assert process.stdout is not None
    process.stdout.readline()
    process.terminate()
    assert process.wait(20) == 9
    assert process.stdout.read() == "caught\n"


def test_state_is_kept_between_labs(tmp_path: Path) -> None:
    state = tmp_path / "state"
    xml = tmp_path / "domain.xml"
    xml.write_text(DOMAIN)
    make = f"virsh -q define {xml}; virsh -q start firmware; echo data > /var/lib/libvirt/images/one"
    assert lab("--state", str(state), "--", "sh", "-c", make).returncode == 0
    uuid = (state / "host_uuid").read_text()
    look = "virsh -q list --all; cat /var/lib/libvirt/images/one; virsh -q capabilities | grep -m1 uuid"
    done = lab("--state", str(state), "--", "sh", "-c", look)
    assert done.stdout.split()[:5] == ["-", "firmware", "shut", "off", "data"]
    assert uuid.strip() in done.stdout


def test_libvirtd_that_dies_comes_back() -> None:
    ask = "for i in 1 2 3 4 5; do virsh -q uri && exit; sleep 0.5; done"
    done = lab("--", "sh", "-c", f"sleep 1.2; pkill -9 libvirtd; sleep 0.2; {ask}")
    assert "qemu:///system" in done.stdout


def test_a_domain_that_libvirtd_ended_in_the_start_of_is_off(tmp_path: Path) -> None:
    """As libvirt 9.0 leaves it: no process yet, and a start that goes on for ever."""
    xml = tmp_path / "domain.xml"
    xml.write_text(DOMAIN)
    status = "/run/libvirt/qemu/firmware.xml"
    cut_short = "s/<domstatus .*>/<domstatus state='paused' reason='starting up' pid='0'>/"
    script = f"""
        virsh -q define {xml} && virsh -q start firmware && sleep 1
        sed "{cut_short}" {status} > {tmp_path}/status && virsh -q destroy firmware
        cp {tmp_path}/status {status}; pkill -9 libvirtd
        until virsh -q uri 2>/dev/null; do sleep 0.1; done
        virsh -q domstate firmware && virsh -q start firmware && virsh -q domstate firmware
    """
    done = lab("--", "bash", "-c", script)
    assert done.stdout.split("\n")[-4:] == ["qemu:///system", "shut off", "running", ""], done


def test_lab_in_a_lab() -> None:
    inside = "virsh -q net-start default >/dev/null; virsh -q net-list; hostname"
    inner = f"{sys.executable} -m hypervisor.lab -- sh -c '{inside}'"
    done = lab("--hostname", "outer", "--", "sh", "-c", f"{inner}; hostname; virsh -q net-list")
    assert done.stdout.split() == ["default", "active", "no", "yes", "lab-default", "outer"]


def in_terminal(script: str, log: Path) -> list[str]:
    """The command that runs a shell script in a terminal of its own."""
    return ["script", "--quiet", "--return", "--command", script, str(log)]


def test_terminal_goes_to_an_interactive_shell_and_back(tmp_path: Path) -> None:
    shell = f"{sys.executable} -m hypervisor.lab -- bash --norc -i"
    (tmp_path / "around").write_text(f"{shell}\necho status $?\nread line\necho read $line\n")
    done = subprocess.run(
        in_terminal(f"bash {tmp_path}/around", tmp_path / "log"),
        input="PS1=\nsleep 30 & jobs\nkill %1\nexit 6\nafterwards\n",
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
        cwd=ROOT,
    )
    assert "no job control" not in done.stdout
    assert "Running" in done.stdout
    assert "status 6" in done.stdout
    assert "read afterwards" in done.stdout


def test_interrupt_key_ends_the_command_and_the_lab(tmp_path: Path) -> None:
    command = in_terminal(f"{sys.executable} -m hypervisor.lab -- cat", tmp_path / "log")
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("hello\n")
        process.stdin.flush()
        # Once the terminal's echo, once cat.
        assert [process.stdout.readline().strip() for _ in range(2)] == ["hello", "hello"]
        process.stdin.write("\x03")
        process.stdin.flush()
        assert process.wait(20) == 128 + signal.SIGINT
