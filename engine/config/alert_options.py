"""The options of notifications: what is told of, when, and whom."""

from __future__ import annotations

from dataclasses import dataclass

from engine.config import validators as rules
from engine.config.option import option


@dataclass(frozen=True, slots=True)
class Notify:
    """Whom a worker tells of what needs an operator. Without webhook and mail_to it tells nobody."""

    on: str = option(
        "breaker,budget,watch,lag,edge",
        "of what: the breaker tripped, the budget nearly used, a watched network throttled or released, lag, a silent edge",
        wanted=rules.conditions,
    )
    watch: str = option("", "networks whose throttles are told of, as CIDR, several with commas", wanted=rules.networks)
    lag_s: int = option(60, "a partition so far behind is told of", low=1, high=86_400)
    budget_percent: int = option(80, "so much of the budget for deferred regular mail is told of", low=1, high=1_000)
    hold_s: int = option(
        60, "a condition must last so long to be told of, and be away for as long to be over", low=0, high=86_400
    )
    repeat_h: int = option(24, "it is told again as long as it lasts, so often", low=1, high=8_760)
    webhook: str = option("", "http or https address that JSON is POSTed to", wanted=rules.web_address)
    webhook_secret: str = option("", "key of the HMAC that signs it; better in the environment", secret=True)
    mail_to: str = option("", "mail addresses, several with commas", wanted=rules.mail_addresses)
    mail_from: str = option("tidegate@localhost", "the sender of these mails", wanted=rules.mail_addresses)
    smtp: str = option("127.0.0.1:25", "where mail is handed in", wanted=rules.servers)
    smtp_security: str = option("none", "of that connection", choices=("none", "starttls", "tls"))
    smtp_username: str = option("", "who we are there; empty: nobody asks")
    smtp_password: str = option("", "better in the environment than in a file", secret=True)
