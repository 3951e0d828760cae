"""Options of the section [notify]: which conditions raise alerts, for how long, and who receives them."""

from __future__ import annotations

from dataclasses import dataclass

from engine.config import validators
from engine.config.option import option


@dataclass(frozen=True, slots=True)
class AlertOptions:
    """Alerts of workers to operators. Without webhook and mail_to none are sent."""

    on: str = option(
        "breaker,budget,watch,lag,edge",
        "conditions: circuit breaker tripped, budget nearly used, watched network throttled or released, partition lag, "
        "missing heartbeats of an edge",
        validate=validators.conditions,
    )
    watch: str = option(
        "", "networks whose throttles and releases raise alerts, CIDR, comma-separated", validate=validators.networks
    )
    lag_s: int = option(60, "lag of a partition that raises an alert", low=1, high=86_400)
    budget_percent: int = option(
        80, "used share of the budget for deferred regular mail that raises an alert", low=1, high=1_000
    )
    hold_s: int = option(
        60, "a condition is reported after it has lasted this long, and closed after it was absent this long", low=0,
        high=86_400,
    )  # fmt: skip
    repeat_h: int = option(24, "interval of reminders while a condition lasts", low=1, high=8_760)
    webhook: str = option(
        "", "http or https URL; alerts are POSTed to it as JSON", validate=validators.web_address, secret=True
    )
    webhook_secret: str = option("", "HMAC key that signs the POSTs; prefer the environment to a file", secret=True)
    mail_to: str = option("", "recipients, mail addresses, comma-separated", validate=validators.mail_addresses)
    mail_from: str = option("tidegate@localhost", "sender address of the mails", validate=validators.mail_addresses)
    smtp: str = option("127.0.0.1:25", "SMTP server for the mails, HOST:PORT", validate=validators.servers)
    smtp_security: str = option("none", "encryption of the SMTP connection", choices=("none", "starttls", "tls"))
    smtp_username: str = option("", "SMTP user; empty: no authentication")
    smtp_password: str = option("", "SMTP password; prefer the environment to a file", secret=True)
