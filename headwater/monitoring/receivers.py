"""Receivers outside: Slack, PagerDuty, mail, webhooks and whatever else Apprise can reach.

Knows URLs and Apprise, not what is said or when. The URLs hold tokens: they are never logged, never
put into an error and never stored, and a receiver is known by a digest of its URL.
"""

import logging
from collections.abc import Sequence
from typing import Any

from headwater.errors import HeadwaterError
from headwater.monitoring.outbox import Message, Receiver
from headwater.records import digest_of
from headwater.settings import Settings


class AppriseReceiver:
    """One Apprise URL."""

    def __init__(self, url: str, service: Any) -> None:
        self._service = service
        self.key = digest_of("receiver", url)[:16]
        self.name = f"{url.split('://', maxsplit=1)[0]} {self.key[:6]}"

    def send(self, message: Message) -> bool:
        """Hand it over once; Apprise gives up on a silent receiver after some seconds."""
        import apprise

        kind = apprise.NotifyType.FAILURE
        if message.resolved:
            kind = apprise.NotifyType.SUCCESS
        elif message.alert.severity == "warning":
            kind = apprise.NotifyType.WARNING
        told = apprise.Apprise(self._service).notify(
            title=message.title,
            body=message.body,
            notify_type=kind,
            body_format=apprise.NotifyFormat.TEXT,
        )
        return bool(told)


def receivers(settings: Settings) -> Sequence[Receiver]:
    """Everybody whom `HEADWATER_ALERT_URLS` names, each once.

    Raises:
        HeadwaterError: one of them is not a URL that Apprise can use.
    """
    configured = settings.alert_urls.get_secret_value()
    if not configured.strip():
        return []
    # Both libraries put URLs, and so tokens, into their debug logs.
    for name in ("apprise", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    from apprise import Apprise
    from apprise.utils.parse import parse_urls

    found: dict[str, Receiver] = {}
    for number, url in enumerate(parse_urls(configured), start=1):
        service = Apprise.instantiate(url)
        if service is None:
            raise HeadwaterError(
                f"Entry {number} of HEADWATER_ALERT_URLS is not a URL that Apprise can use.",
                mend="Its documentation lists the form for each service; the entry is not shown"
                " here because it may hold a token.",
            )
        receiver = AppriseReceiver(url, service)
        found.setdefault(receiver.key, receiver)
    return list(found.values())
