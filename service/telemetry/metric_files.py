"""Metric files of multiprocess mode that survive a full disk.

prometheus_client maps a sparse file and writes to the mapping. If the disk has no space for a page,
the kernel ends the process with SIGBUS. So space is reserved before the file is mapped; while there
is none, new metrics are kept in the memory of this process only.
"""

import os
import time
from pathlib import Path

from prometheus_client.mmap_dict import MmapedDict

FIRST_BYTES = 256 * 1024
"""Enough for about two thousand metrics, so that a file rarely grows."""
RETRY_S = 1.0


def reserve(path: Path, size: int) -> None:
    """Extend the file to `size` by writing zeros. Raises OSError; the file is then unchanged."""
    with path.open("ab") as file:
        before = os.fstat(file.fileno()).st_size
        if before >= size:
            return
        try:
            file.write(bytes(size - before))
            file.flush()
            os.fsync(file.fileno())  # some file systems allocate only now
        except OSError:
            os.ftruncate(file.fileno(), before)
            if not before:  # an empty file cannot be read
                path.unlink()
            raise


class ReservedFile(MmapedDict):
    """A MmapedDict with reserved space; MmapedDict extends its file in `_init_value` only."""

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        self._unstored: dict[str, tuple[float, float]] = {}
        self._retry_at = 0.0
        self._is_open = True
        try:
            if not read_mode:
                reserve(Path(filename), FIRST_BYTES)
            super().__init__(filename, read_mode)
        except OSError:
            if read_mode:
                raise
            self._is_open = False  # kept in memory until the next start

    def read_value(self, key: str) -> tuple[float, float]:
        """The value and its timestamp; both 0 for a new metric."""
        if self._has_space(key):
            found: tuple[float, float] = super().read_value(key)
            return found
        return self._unstored.setdefault(key, (0.0, 0.0))

    def write_value(self, key: str, value: float, timestamp: float) -> None:
        """Store the value, in the file if it has space."""
        if self._has_space(key):
            super().write_value(key, value, timestamp)
        else:
            self._unstored[key] = value, timestamp

    def close(self) -> None:
        """Close the file."""
        if self._is_open:
            super().close()

    def _has_space(self, key: str) -> bool:
        """Whether the metric is in the file or can be added now."""
        if not self._is_open:
            return False
        if key in self._positions:
            return True
        needed = self._used + len(key.encode()) + 64
        if needed > self._capacity:
            if time.monotonic() < self._retry_at:
                return False
            try:
                reserve(Path(self._fname), 2 * self._capacity)
            except OSError:
                self._retry_at = time.monotonic() + RETRY_S
                return False
        self._unstored.pop(key, None)
        return True
