"""A file that HDF5 writes to and that never fails: the first error is kept and raised by us.

HDF5 crashes the process when a write fails while it closes a file (a full disk is enough). So its
writes go through this object; once one has failed the rest is dropped, and the writer, which asks
after every case, gives up in an orderly way.
"""

import io
import os
from pathlib import Path


class Sink:
    """Random access to a new file through its descriptor, as h5py wants it from a file object."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        self._position = 0
        self._size = 0
        self.error: OSError | None = None

    def write(self, data: bytes | memoryview) -> int:
        """Write all of `data`, or keep the error and drop it."""
        rest = memoryview(data).cast("B")
        length = len(rest)
        offset = self._position
        try:
            while rest and self.error is None:
                done = os.pwrite(self._descriptor, rest, offset)
                rest, offset = rest[done:], offset + done
        except OSError as error:
            self.error = error
        self._position += length
        self._size = max(self._size, self._position)
        return length

    def readinto(self, buffer: memoryview) -> int:
        """Fill `buffer` from the current position; what was never written reads as zeros."""
        target = memoryview(buffer).cast("B")
        data = os.pread(self._descriptor, len(target), self._position)
        target[:] = data.ljust(len(target), b"\0")
        self._position += len(target)
        return len(target)

    def read(self, length: int) -> bytes:
        """`length` bytes from the current position, as `readinto`."""
        buffer = bytearray(length)
        self.readinto(memoryview(buffer))
        return bytes(buffer)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the position; from the start, from here or from the end."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        """The position in bytes."""
        return self._position

    def truncate(self, size: int | None = None) -> int:
        """Set the length of the file, or keep the error."""
        self._size = self._position if size is None else size
        try:
            if self.error is None:
                os.ftruncate(self._descriptor, self._size)
        except OSError as error:
            self.error = error
        return self._size

    def flush(self) -> None:
        """Nothing is buffered here."""

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._descriptor)

    def check(self) -> None:
        """Raise the first error of a write, if there was one."""
        if self.error is not None:
            raise self.error
