"""What a person needs first: where the API is, a key, and a first virtual machine to paste."""

import os
import sys
from pathlib import Path

import click

from api.settings import Settings
from api.wire.tls import read

_FIRST_VM = """\
python3 - <<'END'
import pathlib, {ssl}subprocess, time, xmlrpc.client

api, key = xmlrpc.client.ServerProxy("{endpoint}", allow_none=True{trust}), "{key}"
identity = pathlib.Path("~/.ssh/id_ed25519").expanduser()
if not identity.exists():
    identity.parent.mkdir(mode=0o700, exist_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", identity], check=True)

image = api.hosting.image.list(key, {{"label": "Tiny"}})[0]
here = image["datacenter_id"]
vm = {{"datacenter_id": here, "hostname": "first", "memory": 256,
      "ssh_key": identity.with_suffix(".pub").read_text(),
      "script": "#!/bin/sh\\necho \\"made by $(hostname)\\" > /root/hello\\n"}}
operations = api.hosting.vm.create_from(key, vm, {{"datacenter_id": here, "name": "first"}}, image["disk_id"])
while (last := api.operation.info(key, operations[-1]["id"]))["step"] in ("BILL", "WAIT", "RUN"):
    time.sleep(0.2)
print(last["step"], last["last_error"] or "")
ip = api.hosting.vm.info(key, last["vm_id"])["ifaces"][0]["ips"][0]["ip"]
print("{enter}ssh -i", identity, "-o ConnectionAttempts=60 -o StrictHostKeyChecking=no "
      "-o UserKnownHostsFile=/dev/null root@" + ip)
END"""

_TRUST = """\
A client trusts it once it has a copy of that file and the fingerprint is the same. Python and what is built
on it: SSL_CERT_FILE=COPY; curl: --cacert COPY; for a copy, unless you have ssh:
  openssl s_client -connect {address} </dev/null | openssl x509 > COPY
  openssl x509 -noout -fingerprint -sha256 -in COPY"""


def welcome(settings: Settings, address: str) -> None:
    """Print it; the API answers at `address`."""
    address = os.environ.get("HYPERVISOR_LAB_LISTEN", address)
    file = settings.state / "apikey"
    key = settings.api_key or (file.read_text().strip() if file.exists() else "YOUR-API-KEY")
    in_lab = "HYPERVISOR_LAB_LISTEN" in os.environ
    enter = (
        f"{Path(sys.executable).parent / 'hypervisor'} lab enter --name {os.environ['HYPERVISOR_LAB']} -- "
        if in_lab
        else ""
    )
    where = "a private lab" if in_lab else settings.libvirt_uri
    click.echo()
    announce(settings, address, where)
    ssl = trust = ""
    if settings.tls.self_signed:
        cert, _ = settings.certificate
        ssl, trust = "ssl, ", f', context=ssl.create_default_context(cafile="{cert}")'
        click.echo(_TRUST.format(cert=cert, address=address))
    click.echo(f"API key: {key}\n\nA first virtual machine, to paste into another terminal:\n")
    endpoint = _endpoint(settings, address)
    click.echo(_FIRST_VM.format(endpoint=endpoint, key=key, enter=enter, ssl=ssl, trust=trust))
    click.echo("\nCtrl-C ends the service.", nl=True)


def announce(settings: Settings, address: str, where: str | None = None) -> None:
    """Print where the API answers and by which certificate, but no key."""
    endpoint = _endpoint(settings, address)
    click.echo(f"The Hosting API answers at {endpoint} (virtual machines in {where or settings.libvirt_uri})")
    if settings.tls.on:
        cert, _ = settings.certificate
        click.echo(f"Its certificate {cert} has the SHA-256 fingerprint\n  {read(cert).fingerprint}")


def _endpoint(settings: Settings, address: str) -> str:
    return f"{settings.scheme}://{address}/xmlrpc/"
