"""Sending mail: one message through the operator's mail server, by the standard library's SMTP client, in a thread.

Connections are encrypted: from the start (``smtps``), or by STARTTLS before anything is said (``smtp``). Only a server on this
machine may be spoken to in the clear.
"""

from __future__ import annotations

import logging
import smtplib
import ssl
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Final

log = logging.getLogger(__name__)

TIMEOUT_S: Final = 15.0
"""For each step of the conversation. A mail server that thinks longer is asked again later."""


class MailError(Exception):
    """A message was not taken. `lasting` tells that the same message will not be taken later either."""

    def __init__(self, detail: str, *, lasting: bool = False) -> None:
        super().__init__(detail)
        self.lasting = lasting


@dataclass(frozen=True, slots=True)
class MailServer:
    """Where mail is handed in. `security` is tls (from the start), starttls, or local (in the clear, on this machine)."""

    host: str
    port: int
    security: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    context: ssl.SSLContext | None = field(default=None, repr=False)
    timeout_s: float = TIMEOUT_S

    def send(self, message: EmailMessage) -> None:
        """Hand in a message; blocks, so call it in a thread. Raises MailError, with what the server said.

        Some of several recipients may be refused: then the others have it, and the log says who has not.
        """
        try:
            with self._connect() as client:
                if self.security == "starttls":
                    client.starttls(context=self._trust())
                if self.user is not None:
                    client.login(self.user, self.password or "")
                refused = client.send_message(message)
        except smtplib.SMTPRecipientsRefused as error:
            raise _refusal(error.recipients) from error
        except smtplib.SMTPAuthenticationError as error:
            raise MailError(f"the mail server did not take user and password: {_said(error)}") from error
        except smtplib.SMTPResponseException as error:
            raise MailError(_said(error), lasting=500 <= error.smtp_code < 600) from error
        except (OSError, smtplib.SMTPException, ValueError) as error:
            raise MailError(f"{type(error).__name__}: {error}") from error
        if refused:
            log.warning("mail_recipients_refused", extra={"said": str(_refusal(refused))})

    def _connect(self) -> smtplib.SMTP:
        if self.security == "tls":
            return smtplib.SMTP_SSL(self.host, self.port, timeout=self.timeout_s, context=self._trust())
        return smtplib.SMTP(self.host, self.port, timeout=self.timeout_s)

    def _trust(self) -> ssl.SSLContext:
        return self.context or ssl.create_default_context()


def _refusal(recipients: dict[str, tuple[int, bytes]]) -> MailError:
    """It is worth trying again while any recipient was refused for now only."""
    told = "; ".join(f"{code} {text.decode(errors='replace')}" for code, text in recipients.values())
    lasting = all(code >= 500 for code, _ in recipients.values())
    return MailError(f"the mail server refused recipients: {told}", lasting=lasting)


def _said(error: smtplib.SMTPResponseException) -> str:
    text = error.smtp_error
    return (
        f"the mail server said {error.smtp_code} {text.decode(errors='replace') if isinstance(text, bytes) else text}"
    )
