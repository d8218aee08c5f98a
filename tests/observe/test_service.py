"""A running service watched from outside: its pages, its log, and that neither tells a secret."""

import json
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import NewService
from tests.service.client import Client
from tests.service.guest import Identity
from tests.service.host import Door
from tests.service.process import ROOT, Service
from tests.service.waiting import until

pytestmark = pytest.mark.guest

# in what is typed once and must be seen nowhere
CANARIES = {
    "password": "canaryPassword7f3a",
    "script": "#!/bin/sh\n# canaryScript7f3a\ntrue\n",
}


def page(service: Service, path: str) -> tuple[int, str]:
    """Status and body of a page."""
    url = service.url.replace("/xmlrpc/", path)
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def samples(text: str) -> dict[str, float]:
    """The samples of a scrape, by name and labels."""
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def test_the_page_of_metrics_is_documented(service: Service) -> None:
    """`docs/operations.md` has each metric with its type, its labels and its text, and no other."""
    text = page(service, "/metrics")[1]
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    there = {
        (name, types[name], said)
        for name, said in re.findall(r"^# HELP (\S+) (.+)$", text, re.MULTILINE)
        if name.startswith("hypervisor_") and not name.endswith("_created")
    }
    rows = re.findall(
        r"^\| `(hypervisor_\w+)(?:\{[^`]*\})?` \| (\w+) \| (.+) \|$",
        (ROOT / "docs" / "operations.md").read_text(),
        re.MULTILINE,
    )
    assert set(rows) == there


def test_a_vm_from_request_to_libvirt(service: Service, client: Client, identity: Identity) -> None:
    """One `grep` tells the story of an operation, the figures count it, and no line has a secret."""
    before, begun = samples(page(service, "/metrics")[1]), len(service.log)
    operations = client.create_from({"hostname": "told", "ssh_key": identity.public, **CANARIES})
    number = client.done(operations)[-1]["id"]
    vm_id = operations[-1]["vm_id"]
    until(lambda: f"operation={number} " in service.log and "settle took" in service.log[begun:], 10, "told")
    log = service.log[begun:]
    story = [line for line in log.splitlines() if f"operation={number} " in line]
    told = "\n".join(story)
    for word in (
        "vm_create is accepted", "vm_create begins", "step build took", f"start of domain vm-{vm_id}:",
        "vm_create is DONE after", "request=", "account=LOCAL-GANDI", f"vm={vm_id}", "job=",
    ):  # fmt: skip
        assert word in told, f"{word!r} is missing in\n{told}"
    assert story[0].split("]: ")[1] == "vm_create is accepted"
    for canary in ("canaryPassword", "canaryScript", identity.public.split()[1], client.key):
        assert canary not in log
    after = samples(page(service, "/metrics")[1])

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0)

    for kind in ("disk_create", "iface_create", "vm_create"):
        assert grown(f'hypervisor_operations_accepted_total{{type="{kind}"}}') == 1
        assert grown(f'hypervisor_operations_ended_total{{step="DONE",type="{kind}"}}') == 1
        assert grown(f'hypervisor_operation_seconds_count{{type="{kind}"}}') == 1
    assert grown('hypervisor_step_seconds_count{step="build"}') == 1
    assert grown('hypervisor_libvirt_seconds_count{area="domain"}') > 0
    assert grown('hypervisor_domains{datacenter="FR-SD5",state="running"}') == 1
    assert after['hypervisor_libvirt_connected{datacenter="LU-BI1"}'] == 1
    assert after["hypervisor_engine_running"] == 1
    assert after["process_resident_memory_bytes"] > 0
    assert client.key not in page(service, "/metrics")[1]
    assert "LOCAL-GANDI" not in page(service, "/metrics")[1]
    service.discard(client, vm_id)


def test_what_fails_and_what_waits(service: Service, client: Client) -> None:
    before = samples(page(service, "/metrics")[1])
    disk = client.done(client.call("hosting.disk.create", {"datacenter_id": 1, "name": "x", "size": 1024}))[0]
    client.done(client.call("hosting.disk.delete", disk["disk_id"]))
    assert page(service, "/readyz")[0] == 200
    after = samples(page(service, "/metrics")[1])
    ended = 'hypervisor_operations_ended_total{step="DONE",type="disk_delete"}'
    assert after[ended] - before.get(ended, 0) == 1
    assert after['hypervisor_jobs{state="waiting"}'] == 0


@pytest.mark.long
def test_ready_while_libvirt_is_there(new_service: NewService, tmp_path: Path) -> None:
    """Without libvirt it is not ready, says so at once, and logs JSON all the time."""
    door = Door(tmp_path)
    service = new_service(HYPERVISOR_LIBVIRT_URI=door.uri, HYPERVISOR_LOG_FORMAT="json").start()
    status, body = page(service, "/readyz")
    assert (status, json.loads(body)) == (200, {"status": "ready"})
    door.close()
    service.host.kill_libvirtd()
    until(lambda: page(service, "/readyz")[0] == 503, 20, "it is not ready")
    reasons: dict[str, Any] = json.loads(page(service, "/readyz")[1])["reasons"]
    assert list(reasons) == ["libvirt"]
    assert page(service, "/healthz")[0] == 200
    assert samples(page(service, "/metrics")[1])['hypervisor_libvirt_connected{datacenter="FR-SD5"}'] == 0
    door.open()
    until(lambda: page(service, "/readyz")[0] == 200, 30, "it is ready again")
    said = [line for line in service.log.splitlines() if line.startswith("{")]
    assert any("connecting anew" in json.loads(line)["message"] for line in said)
    assert not re.search(r"^\d{4}-\d\d-\d\d ", service.log, re.MULTILINE)
