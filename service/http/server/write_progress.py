"""How far a client has read what was written to its connection."""

import asyncio
import fcntl
import sys
import termios


class WriteProgress:
    """Counts the bytes written to a transport, and detects that none of them leave."""

    __slots__ = ("_moved_at", "_sent_bytes", "_transport", "written_bytes")

    def __init__(self, transport: asyncio.Transport, now: float) -> None:
        self._transport = transport
        self.written_bytes = 0
        self._sent_bytes: int | None = None
        """Bytes sent at the last check; None: all of them."""
        self._moved_at = now

    @property
    def unsent_bytes(self) -> int:
        """Bytes that the process and the kernel hold for a client that reads slowly, or 0."""
        unsent = self._transport.get_write_buffer_size()
        return unsent + count_unacknowledged(self._transport) if unsent else 0

    def is_stuck(self, now: float, timeout_s: float) -> bool:
        """Check the progress: whether bytes are unsent and none has left for `timeout_s`."""
        unsent = self.unsent_bytes
        if not unsent:
            self._sent_bytes = None
            return False
        sent = self.written_bytes - unsent
        if sent != self._sent_bytes:
            self._sent_bytes, self._moved_at = sent, now
            return False
        return now - self._moved_at > timeout_s


def count_unacknowledged(transport: asyncio.Transport) -> int:
    """The bytes in the kernel's send buffer; it accepts more only when much of it has left."""
    sock = transport.get_extra_info("socket")
    try:
        count = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4))
    except (OSError, AttributeError):  # not on every system
        return 0
    return int.from_bytes(count, sys.byteorder)
