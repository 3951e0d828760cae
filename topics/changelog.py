"""The state changelog: what a record's key and value look like.

Compacted. Kinds of records: one for each row of a table (a sender, a pool), and one for what a partition keeps as a whole
("site": cohort, clock, source offset; "door": who waits for a row; "flood": prefixes of those without one). Key of a
sender's row: eight octets, the table key big-endian; of another table's, its kind in one octet before that; of a whole,
its name. A null value deletes: the row was evicted. Value: a 16-octet head, then the row as it is in memory:

    0  uint16  state format version            4  uint32  epoch of the writer (changes with every restart)
    2  uint16  kind                            8  uint32  CRC-32C of head (this field 0) and row
                                              12  uint32  octets that follow

All integers of head and row are little-endian. A record of version N is read by N and N + 1; a later version is refused.
Everything between two transaction markers is one consistent cut: the site's ``applied_offset`` says of which events.
"""

from __future__ import annotations

import struct

HEAD = struct.Struct("<HHIII")
ROW_KIND, SITE_KIND, FILTER_KIND, POOL_KIND, PREFIX_KIND = 1, 2, 3, 4, 5
KINDS = 1 + max(ROW_KIND, SITE_KIND, FILTER_KIND, POOL_KIND, PREFIX_KIND)
SITE_KEY, FILTER_KEY, PREFIX_KEY = b"site", b"door", b"flood"


class BadState(ValueError):
    """A changelog record that can't be read; the message says which and what to do."""
