"""How often an API key may call."""

import threading
import time
from collections.abc import Callable

_MANY = 1024  # keys that are remembered before those are looked for that need not be


class Pace:
    """A leaky bucket for each key, kept as the moment at which it will be empty.

    A key whose bucket is empty is one that was never seen, so nothing is kept of it for long: at most one
    number for each key that called within the last ``burst / rate`` seconds.
    """

    def __init__(self, rate: float | None, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Let each key make `rate` calls a second, `burst` of them at once; None lets it do as it likes."""
        self._interval = None if rate is None else 1 / rate
        self._burst = burst
        self._clock = clock
        self._empty: dict[int, float] = {}
        self._many = _MANY
        self._lock = threading.Lock()

    def wait(self, key_id: int) -> float:
        """Count a call of the key; returns 0.0, or the seconds until it may call again when it is refused.

        A refused call is not counted.
        """
        if self._interval is None:
            return 0.0
        with self._lock:
            at = self._clock()
            empty = max(at, self._empty.get(key_id, at))
            too_early = empty - at - (self._burst - 1) * self._interval
            # the clock's last digits must not refuse a call that is in time
            if too_early > self._interval * 1e-6:
                return too_early
            self._empty[key_id] = empty + self._interval
            if len(self._empty) > self._many:
                self._forget(at)
            return 0.0

    def __len__(self) -> int:
        """How many keys are remembered."""
        return len(self._empty)

    def _forget(self, at: float) -> None:
        self._empty = {key_id: empty for key_id, empty in self._empty.items() if empty > at}
        # looked at again once there are twice as many: the cost stays one for each call
        self._many = max(_MANY, 2 * len(self._empty))
