"""The Debian mirror that packages come from: by default the one that the host's own apt uses."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

STANDARD_URL = "http://deb.debian.org/debian"
STANDARD_SECURITY_URL = "http://deb.debian.org/debian-security"
_CODENAMES = frozenset(
    [
        "bookworm",
        "trixie",
        "forky",
        "duke",
        "sid",
        "oldoldstable",
        "oldstable",
        "stable",
        "testing",
        "unstable",
    ]
)
_SCHEMES = frozenset({"http", "https", "file", "copy"})


@dataclass(frozen=True, slots=True)
class Mirror:
    """Where the packages of a Debian guest come from.

    Attributes:
        url: an archive (it has `dists/` and `pool/`).
        security_url: the archive of security updates, or None to go without.
    """

    url: str
    security_url: str | None = None

    def sources(self, suite: str) -> list[str]:
        """One-line apt sources for a release such as `bookworm`."""
        lines = [f"deb {self.url} {suite} main", f"deb {self.url} {suite}-updates main"]
        if self.security_url is not None:
            lines.append(f"deb {self.security_url} {suite}-security main")
        return lines


STANDARD = Mirror(STANDARD_URL, STANDARD_SECURITY_URL)


@dataclass(frozen=True, slots=True)
class _Source:
    uri: str
    suite: str
    components: tuple[str, ...]

    @property
    def codename(self) -> str:
        return self.suite.split("/")[0].split("-")[0]


def of_host(root: Path = Path("/")) -> Mirror:
    """Read the Debian mirror from apt's configuration under `root`.

    A host that has none (Ubuntu, a host without sources) gets Debian's standard mirror: a Debian guest
    cannot be made from another distribution's archive.
    """
    sources = [
        source
        for source in _configured(root / "etc/apt")
        if source.codename in _CODENAMES and "main" in source.components
    ]
    security = [source.uri for source in sources if "security" in source.suite]
    archives = [source.uri for source in sources if source.uri not in security]
    # third parties also offer "bookworm main": Debian's own archive is known by the end of its address
    named = [uri for uri in archives if uri.rstrip("/").endswith("/debian")]
    named += [uri for uri in archives if "/debian/" in f"{urlsplit(uri).path}/"]
    if not named:
        return STANDARD
    return Mirror(named[0], security[0] if security else None)


def _configured(folder: Path) -> Iterator[_Source]:
    parts = folder / "sources.list.d"
    for path in [folder / "sources.list", *sorted(parts.glob("*.list"))]:
        if path.is_file():
            yield from parse_list(path.read_text(errors="replace"))
    for path in sorted(parts.glob("*.sources")):
        yield from parse_deb822(path.read_text(errors="replace"))


def parse_list(text: str) -> Iterator[_Source]:
    """Read the one-line format: `deb [options] uri suite component...`."""
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)\s*([^#]*)", line)
        if match and urlsplit(match[1]).scheme in _SCHEMES:
            yield _Source(match[1], match[2], tuple(match[3].split()))


def parse_deb822(text: str) -> Iterator[_Source]:
    """Read the stanza format of `.sources` files; disabled stanzas are left out."""
    # a comment vanishes wherever it stands, even inside a stanza
    text = re.sub(r"^#.*\n?", "", text, flags=re.MULTILINE)
    for stanza in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        for name, value in re.findall(r"^([A-Za-z-]+):(.*(?:\n[ \t].*)*)", stanza, flags=re.MULTILINE):
            fields[name.lower()] = value
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").strip() == "no":
            continue
        for uri in fields.get("uris", "").split():
            if urlsplit(uri).scheme in _SCHEMES:
                for suite in fields.get("suites", "").split():
                    yield _Source(uri, suite, tuple(fields.get("components", "").split()))


def apt_options(dump: str) -> list[str]:
    """Pick what apt needs to reach the mirror (proxies, certificates) out of `apt-config dump`."""
    wanted = re.compile(r'(Acquire::https?::(?:Proxy|CAInfo|Proxy::[^ "]+|Verify-\w+)) "(.+)";')
    return [f'{name} "{value}"' for name, value in wanted.findall(dump)]
