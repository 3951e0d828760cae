"""Times as people write and read them, always UTC."""

from __future__ import annotations

from datetime import UTC, datetime

from topics.errors import OperatorError


def time_text(epoch_ms: float) -> str:
    """Return a time as text: ``2026-11-25 09:30:12 UTC``."""
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def parse_time_ms(text: str) -> int:
    """Return ms since epoch of ISO 8601 text (UTC if it has no zone) or of a number of ms. Raise OperatorError otherwise."""
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        time = datetime.fromisoformat(text.removesuffix(" UTC"))
    except ValueError:
        raise OperatorError(
            f"no time {text!r}: give it as 2026-11-25T09:30, with or without a zone (UTC), or as ms since epoch"
        ) from None
    return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000)


def duration_text(duration_ms: float) -> str:
    """Return a duration in its largest whole unit: ``45 min``, ``3.5 h``, ``12 days``."""
    for unit_ms, name in ((86_400_000, "days"), (3_600_000, "h"), (60_000, "min")):
        if duration_ms >= unit_ms:
            return f"{duration_ms / unit_ms:.3g} {name}"
    return f"{duration_ms / 1000:.0f} s"
