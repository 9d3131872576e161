"""Delivery: takes what is due from the outbox, sends it by webhook or mail, and notes how that went.

At least once: a process that dies after a receiver took the alert, but before it could note so, leaves it to be sent again under
the same event id.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import sqlalchemy as sa

from modelgates_server.alerts import outbox
from modelgates_server.alerts.message import mail, webhook_body, webhook_headers
from modelgates_server.alerts.outage import Outage
from modelgates_server.alerts.outbox import Alert, Kind, Parcel, Severity, Told
from modelgates_server.alerts.words import plain_reason
from modelgates_server.clock import Clock, new_id
from modelgates_server.errors import BadRequest, SealBroken, StoreUnavailable
from modelgates_server.outbound.http import Outbound, OutboundError
from modelgates_server.outbound.smtp import MailError, MailServer
from modelgates_server.storage.engine import reading
from modelgates_server.vault.ring import open_vault

log = logging.getLogger(__name__)

WEBHOOK_S: Final = 10.0
"""Longest wait for a receiver's answer: it should take the event and work on it later."""

OPERATOR_WEBHOOK, OPERATOR_MAIL = "operator:webhook", "operator:email"


class NotTaken(Exception):
    """A receiver did not take an alert. `lasting` tells that trying again is of no use."""

    def __init__(self, detail: str, *, lasting: bool = False) -> None:
        super().__init__(detail)
        self.lasting = lasting


@dataclass(frozen=True, slots=True)
class Operator:
    """What the configuration file says: a trusted webhook, who gets mail, who sends it, and through which server."""

    webhook_url: str | None = None
    webhook_secret: str | None = field(default=None, repr=False)
    email_to: tuple[str, ...] = ()
    email_from: str | None = None
    mail_server: MailServer | None = field(default=None, repr=False)

    @property
    def channels(self) -> tuple[str, ...]:
        """The operator's own channels."""
        webhook = (OPERATOR_WEBHOOK,) if self.webhook_url else ()
        return (*webhook, OPERATOR_MAIL) if self.email_to and self.sends_mail else webhook

    @property
    def sends_mail(self) -> bool:
        """Whether mail can be sent at all."""
        return self.mail_server is not None and self.email_from is not None


@dataclass(frozen=True, slots=True)
class Courier:
    """Sends alerts. `trusted` takes the operator's URL as it is, `guarded` refuses addresses that nobody but the operator may name.

    `secret` is the installation's, which opens the signing secrets of channels; `origin` is the address that people know us by.
    """

    engine: sa.Engine
    secret: bytes = field(repr=False)
    operator: Operator
    trusted: Outbound
    guarded: Outbound
    clock: Clock
    origin: str
    webhook_s: float = WEBHOOK_S
    _outage: Outage = field(
        default_factory=partial(Outage, "deliveries_wait_for_the_store"), init=False, repr=False, compare=False
    )

    async def deliver_due(self) -> int:
        """Send what is due, all at once; give how much that was. While the store is away nothing is."""
        try:
            parcels = await asyncio.to_thread(outbox.claim, self.engine, self.clock.now_s())
            await asyncio.gather(*map(self._deliver, parcels))
        except StoreUnavailable as error:
            self._outage.note(error)
            return 0
        self._outage.note(None)
        return len(parcels)

    async def test(self, channel: Mapping[str, Any]) -> None:
        """Send a test alert through a stored channel, now. Raises NotTaken."""
        now_s = self.clock.now_s()
        sentence = "This is a test: alerts about budgets and credit will arrive like this one."
        alert = Alert(channel["organization_id"], "", Kind.TEST, Severity.INFO, sentence)
        await self._send(Told(new_id("alr", now_s), int(now_s), alert), channel["id"], channel)

    async def _deliver(self, parcel: Parcel) -> None:
        try:
            await self._send(parcel.told, parcel.channel_id, parcel.channel)
        except NotTaken as error:
            await self._failed(parcel, str(error), for_good=error.lasting)
        except Exception as error:
            log.exception("alert_delivery_broken", extra={"alert": parcel.told.id, "channel": parcel.channel_id})
            await self._failed(parcel, f"{type(error).__name__} inside the gateway; its log says more")
        else:
            await asyncio.to_thread(outbox.delivered, self.engine, parcel, self.clock.now_s())

    async def _failed(self, parcel: Parcel, reason: str, *, for_good: bool = False) -> None:
        now_s = self.clock.now_s()
        await asyncio.to_thread(outbox.failed, self.engine, parcel, reason, now_s, for_good=for_good)

    async def _send(self, told: Told, channel_id: str, channel: Mapping[str, Any] | None) -> None:
        operator = self.operator
        if channel_id == OPERATOR_WEBHOOK and operator.webhook_url and operator.webhook_secret:
            await self._post(self.trusted, operator.webhook_url, operator.webhook_secret, told)
        elif channel_id == OPERATOR_MAIL and operator.email_to:
            await self._mail(operator.email_to, told)
        elif channel is None:
            raise NotTaken("the channel was removed", lasting=True)
        elif not channel["enabled"]:
            raise NotTaken("the channel is switched off", lasting=True)
        elif channel["kind"] == "webhook":
            secret = await asyncio.to_thread(self._opened, channel)
            await self._post(self.guarded, channel["target"], secret, told)
        else:
            await self._mail((channel["target"],), told)

    def _opened(self, channel: Mapping[str, Any]) -> str:
        bound = {"organization_id": channel["organization_id"], "record_id": channel["id"]}
        try:
            with reading(self.engine) as connection:
                vault = open_vault(connection, self.secret)
                return vault.open(channel["sealed"], **bound, destination=channel["target"]).decode()
        except SealBroken as error:
            raise NotTaken("its signing secret cannot be opened: make a new one", lasting=True) from error

    async def _post(self, http: Outbound, url: str, secret: str, told: Told) -> None:
        body = webhook_body(told)
        headers = webhook_headers(told, body, secret, self.clock.now_s())
        try:
            async with asyncio.timeout(self.webhook_s):
                reply = await http.request("POST", url, headers, body)
                reply.close()  # only the status counts: what an inner machine says is shown to nobody
        except TimeoutError as error:
            raise NotTaken(f"no answer within {self.webhook_s:g} s") from error
        except OutboundError as error:
            raise NotTaken(plain_reason(str(error))) from error
        except BadRequest as error:
            raise NotTaken(error.message, lasting=True) from error
        if 300 <= reply.status < 400:
            raise NotTaken(f"it answered {reply.status}; redirects are not followed: name the final address")
        if not 200 <= reply.status < 300:
            raise NotTaken(f"it answered {reply.status}")

    async def _mail(self, recipients: tuple[str, ...], told: Told) -> None:
        server, sender = self.operator.mail_server, self.operator.email_from
        if server is None or sender is None:
            raise NotTaken("no mail server is configured ([alerts] smtp_url and email_from)")
        try:
            message = mail(told, sender, recipients, self.origin, self.clock.now_s())
            await asyncio.to_thread(server.send, message)
        except MailError as error:
            raise NotTaken(plain_reason(str(error)), lasting=error.lasting) from error
        except ValueError as error:
            raise NotTaken(f"no mail can be addressed like that: {error}", lasting=True) from error
