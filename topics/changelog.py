"""The state changelog: what a record's key and value look like.

Compacted, one record a key of the table and one for the partition as a whole ("site": cohort, clock, source offset).
Key: eight octets, the table key big-endian, or ``b"site"``. Value: a 16-octet head, then the row as it is in memory:

    0  uint16  state format version            4  uint32  epoch of the writer (changes with every restart)
    2  uint16  kind: 1 row, 2 site             8  uint32  CRC-32C of head (this field 0) and row
                                              12  uint32  octets that follow

All integers of head and row are little-endian. A record of version N is read by N and N + 1; a later version is refused.
Everything between two transaction markers is one consistent cut: the site's ``applied_offset`` says of which events.
"""

from __future__ import annotations

import struct

SITE_KEY = b"site"
HEAD = struct.Struct("<HHIII")
ROW_KIND, SITE_KIND = 1, 2


class BadState(ValueError):
    """A changelog record that can't be read; the message says which and what to do."""
