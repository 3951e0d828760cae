"""Bounds on decisions and overrides that no engine exceeds, so that one false record can't defer all mail.

Pure, without compiled code, because edges apply them. A test holds them equal to the detector's constants.
"""

from __future__ import annotations

from topics.contracts import DAY_MS, HOUR_MS
from topics.networks import IPV4_BITS, IPV6_BITS, Network

SHORTEST_PREFIX = {IPV4_BITS: 16, IPV6_BITS: 32}  # bits; the detector's widest pools and prefixes
SHORTEST_MANUAL_PREFIX = {IPV4_BITS: 8, IPV6_BITS: 16}  # bits; of manual throttles, unless forced
LONGEST_TERM_MS = DAY_MS  # of the detector's throttles
CLOCK_SLACK_MS = 2 * HOUR_MS  # brokers accept events up to an hour ahead


def implausible_decision(network: Network, issued_ms: int, until_ms: int, now_ms: int) -> str:
    """Return why no engine issues such a throttle, "" if it is plausible. `now_ms`: the reader's clock."""
    if network.length < SHORTEST_PREFIX[network.bits]:
        return f"a prefix shorter than /{SHORTEST_PREFIX[network.bits]}"
    if issued_ms > now_ms + CLOCK_SLACK_MS:
        return "issued in the future"
    if until_ms - issued_ms > LONGEST_TERM_MS + CLOCK_SLACK_MS:
        return "a term longer than a day"
    return ""


def implausible_manual_throttle(network: Network, issued_ms: int, now_ms: int) -> str:
    """Return why a manual throttle needs to be forced, "" if it doesn't."""
    if network.length < SHORTEST_MANUAL_PREFIX[network.bits]:
        return f"a prefix shorter than /{SHORTEST_MANUAL_PREFIX[network.bits]}"
    return "issued in the future" if issued_ms > now_ms + CLOCK_SLACK_MS else ""
