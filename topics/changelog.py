"""Record keys and values of the state changelog, a compacted topic.

A record is a row of a table (a sender, a pool) or one of a partition's singletons: "site" (cohort, clock, source offset),
"door" (admission filter) and "flood" (prefixes of untracked senders). Key of a sender's row: 8 bytes, the table key
big-endian. Key of another table's row: a byte with its kind, then the table key. Key of a singleton: its name. A null value
means that the row was evicted. Value: a head of 16 bytes, then the row as it is in memory:

    0  uint16  state format version            4  uint32  epoch of the writer (changes with every restart)
    2  uint16  kind                            8  uint32  CRC-32C of head (this field 0) and row
                                              12  uint32  bytes that follow

All integers of head and row are little-endian. Versions N and N + 1 read a record of version N; a later version is refused.
The records between two transaction markers are one consistent cut, of the events up to the site's ``applied_offset``.
"""

from __future__ import annotations

import struct

HEAD = struct.Struct("<HHIII")
ROW_KIND, SITE_KIND, FILTER_KIND, POOL_KIND, PREFIX_KIND = 1, 2, 3, 4, 5
KINDS = 1 + max(ROW_KIND, SITE_KIND, FILTER_KIND, POOL_KIND, PREFIX_KIND)
SITE_KEY, FILTER_KEY, PREFIX_KEY = b"site", b"door", b"flood"


class BadState(ValueError):
    """A changelog record that can't be read; the message names it and says what to do."""
