"""What running domains have used: processor time, memory, bytes on disks and interfaces.

One question to libvirt for all domains (virConnectGetAllDomainStats). QEMU has to answer a part of it, and
libvirt waits without limit for one that is stopped or stuck. Measured with libvirt 9.0: the first question
that meets such a QEMU does not return, and holds that domain's job; with NOWAIT the next one passes over it,
with what libvirt knows by itself. So a question that takes long is left to its fate, with a connection of its
own, and asked again beside it.
"""

import logging
import queue
import threading
from collections.abc import Collection
from urllib.parse import urlsplit

import libvirt
from lxml import etree

from hypervisor.connection import open_apart
from hypervisor.domain.counters import DomainCounters, counters, names
from hypervisor.domain.xml import aliases
from hypervisor.errors import HypervisorError
from hypervisor.libvirt_errors import Unavailable, explained

log = logging.getLogger(__name__)

_GROUPS = (
    libvirt.VIR_DOMAIN_STATS_STATE
    | libvirt.VIR_DOMAIN_STATS_CPU_TOTAL
    | libvirt.VIR_DOMAIN_STATS_VCPU
    | libvirt.VIR_DOMAIN_STATS_BALLOON
    | libvirt.VIR_DOMAIN_STATS_BLOCK
    | libvirt.VIR_DOMAIN_STATS_INTERFACE
)
_FLAGS = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT | libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_RUNNING

# a question has this many seconds, and more for each domain that answered the last one (4 ms were measured)
_PATIENCE, _PATIENCE_EACH = 0.25, 0.01
_PATIENCE_FAR = 3.0  # as much as opening a connection over SSH or TLS may take
_TRIES = 3  # questions in one round
_MOST_STUCK = 8  # questions without an answer: each one holds one of libvirtd's 20 workers


class Reader:
    """Reads the counters of the domains of the libvirt at `uri`, and never waits long for any of them."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._asked: set[object] = set()
        # how many domains the last answer was about; None before the first
        self._answering: int | None = None
        self._patience = _PATIENCE_FAR if urlsplit(uri).hostname else _PATIENCE
        # the devices of each domain by its kernel and QEMU names, and the names that this is good for
        self._devices: dict[str, tuple[frozenset[object], dict[str, str]]] = {}

    @property
    def unanswered(self) -> int:
        """How many questions libvirt has not answered yet."""
        return len(self._asked)

    def read(self, uuids: Collection[str]) -> list[DomainCounters]:
        """The counters of those of `uuids` that run.

        Takes less than a second for fifty, however many are stuck, after the first time; on another host,
        seconds. Raises `Unavailable` when libvirt answers no question, and `LibvirtError`.
        """
        answers: queue.SimpleQueue[list[DomainCounters] | HypervisorError] = queue.SimpleQueue()
        for _ in range(_TRIES):
            if self.unanswered >= _MOST_STUCK:
                break
            question = object()
            self._asked.add(question)
            threading.Thread(
                target=self._ask,
                args=(question, frozenset(uuids), answers),
                name="statistics-question",
                daemon=True,
            ).start()
            answering = len(uuids) if self._answering is None else self._answering
            try:
                answer = answers.get(timeout=self._patience + _PATIENCE_EACH * answering)
            except queue.Empty:
                continue
            if isinstance(answer, HypervisorError):
                raise answer
            return answer
        raise Unavailable(
            f"libvirt at {self.uri} has not answered {self.unanswered} questions for statistics: "
            "is libvirtd stuck, or more than one QEMU?"
        )

    def _ask(
        self,
        question: object,
        uuids: frozenset[str],
        answers: "queue.SimpleQueue[list[DomainCounters] | HypervisorError]",
    ) -> None:
        answer: list[DomainCounters] | HypervisorError
        try:
            answer = self._answer(uuids)
            # also when nobody waits for it any more: the next question is given the time
            self._answering = len(answer)
        except HypervisorError as error:
            answer = error
        except Exception:
            log.exception("statistics of the domains")
            answer = Unavailable(f"the statistics of libvirt at {self.uri} could not be read")
        self._asked.discard(question)
        answers.put(answer)

    def _answer(self, uuids: frozenset[str]) -> list[DomainCounters]:
        connection = open_apart(self.uri)
        with explained("statistics of the domains"):
            found = connection.getAllDomainStats(_GROUPS, _FLAGS)
        ours = [(domain, facts) for domain, facts in found if domain.UUIDString() in uuids]
        return [
            counters(domain.UUIDString(), domain.ID(), facts, self._named(domain, names(facts)))
            for domain, facts in ours
        ]

    def _named(self, domain: libvirt.virDomain, found: frozenset[str]) -> dict[str, str]:
        """Our aliases of the devices `found`; the XML is read only when they are others than before."""
        if not found:
            return {}
        uuid, key = domain.UUIDString(), frozenset({domain.ID(), *found})
        known = self._devices.get(uuid)
        if known is None or known[0] != key:
            try:
                with explained(f"devices of domain {uuid}"):
                    known = (key, aliases(domain.XMLDesc()))
            except (HypervisorError, etree.XMLSyntaxError) as error:
                log.debug("%s", error)  # it may be gone meanwhile
                return {}
            self._devices[uuid] = known
        return known[1]
