"""Text between two inaccessible pages: reading outside of it ends the process."""

from __future__ import annotations

import ctypes
import mmap

import numpy as np
import numpy.typing as npt

PAGE = mmap.PAGESIZE
PROT_NONE = 0


class FencedPage:
    """One page between two inaccessible ones. It lives as long as the process, because views of it may be anywhere."""

    def __init__(self) -> None:
        self._map = mmap.mmap(-1, 3 * PAGE)
        self._all = np.frombuffer(self._map, np.uint8)
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        for page in (0, 2):
            if libc.mprotect(self._all.ctypes.data + page * PAGE, PAGE, PROT_NONE):
                raise OSError(ctypes.get_errno(), "mprotect")
        self.page = self._all[PAGE : 2 * PAGE]

    def at_end(self, text: bytes) -> npt.NDArray[np.uint8]:
        """Return `text` as the page's last bytes."""
        return self._write(text, PAGE - len(text))

    def at_start(self, text: bytes) -> npt.NDArray[np.uint8]:
        """Return `text` as the page's first bytes."""
        return self._write(text, 0)

    def _write(self, text: bytes, at: int) -> npt.NDArray[np.uint8]:
        view = self.page[at : at + len(text)]
        view[:] = np.frombuffer(text, np.uint8)
        view.flags.writeable = False
        return view
