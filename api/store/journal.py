"""A file of lines that are only ever added."""

import os
import threading
from pathlib import Path


class Journal:
    """Appends whole lines to `file`, made for its owner only; when it was moved away, the next line is the
    first of a new file.

    Several threads may append. Raises `OSError` when the file cannot be opened.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._torn = False
        self._open()

    def append(self, line: str) -> None:
        """Add a line; raises `OSError` when it is not there as a whole."""
        with self._lock:
            self._follow()
            left = f"{line}\n".encode()
            if self._torn:
                left = b"\n" + left
            self._torn = True
            while left:
                left = left[os.write(self._descriptor, left) :]
            self._torn = False

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            os.close(self._descriptor)

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(self._file, flags, 0o600)
        status = os.fstat(self._descriptor)
        self._identity = status.st_dev, status.st_ino
        # a full disk or a crash may have left a part of a line
        self._torn = status.st_size > 0 and os.pread(self._descriptor, 1, status.st_size - 1) != b"\n"

    def _follow(self) -> None:
        try:
            status = self._file.stat()
            if (status.st_dev, status.st_ino) == self._identity:
                return
        except FileNotFoundError:
            pass
        moved = self._descriptor
        self._open()
        os.close(moved)
