"""The mirror is the one that the host's apt uses, in either of its two formats."""

from pathlib import Path

import pytest

from hypervisor.image.mirror import STANDARD, Mirror, apt_options, of_host

DEB822 = """\
# the main archive
Types: deb deb-src
URIs: https://mirror.example/debian
Suites: bookworm bookworm-updates
# a comment inside
Components: main contrib
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc

Types: deb
URIs: https://mirror.example/debian-security
Suites: bookworm-security
Components: main
"""
LIST = """\
deb cdrom:[Debian 12]/ bookworm main
deb [arch=amd64 signed-by=/a] http://mirror.example/debian/ trixie main # the archive
deb-src http://source.example/debian trixie main
deb http://mirror.example/security trixie-security main
"""
OTHERS = """\
deb https://vendor.example/linux/debian bookworm stable
deb https://vendor.example bookworm main
"""
UBUNTU = """\
Types: deb
URIs: http://archive.ubuntu.com/ubuntu
Suites: noble noble-updates
Components: main universe
"""


def host(root: Path, **files: str) -> Path:
    folder = root / "etc/apt/sources.list.d"
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"d_sources": DEB822}, Mirror("https://mirror.example/debian", "https://mirror.example/debian-security")),
        ({"d_list": LIST}, Mirror("http://mirror.example/debian/", "http://mirror.example/security")),
        ({"a_list": OTHERS, "d_list": LIST}, Mirror("http://mirror.example/debian/", "http://mirror.example/security")),
        ({"u_sources": UBUNTU}, STANDARD),
        ({"d_sources": f"Enabled: no\n{DEB822.removeprefix('# the main archive')[1:]}"},
         STANDARD),
        ({}, STANDARD),
    ],
)  # fmt: skip
def test_of_host(tmp_path: Path, files: dict[str, str], expected: Mirror) -> None:
    assert of_host(host(tmp_path, **files)) == expected


def test_sources_of_a_release() -> None:
    assert Mirror("http://m/debian", "http://m/sec").sources("bookworm") == [
        "deb http://m/debian bookworm main",
        "deb http://m/debian bookworm-updates main",
        "deb http://m/sec bookworm-security main",
    ]
    assert len(Mirror("http://m/debian").sources("bookworm")) == 2


def test_proxy_of_the_host_is_handed_on() -> None:
    dump = 'APT::Architecture "amd64";\nAcquire::http::Proxy "http://p:3142";\nAcquire::Languages "none";\n'
    assert apt_options(dump) == ['Acquire::http::Proxy "http://p:3142"']
