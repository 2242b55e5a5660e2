"""Mail to people: one conversation with one mail server, encrypted, in a thread of its own."""

import asyncio
import contextlib
import smtplib
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from urllib.parse import urlsplit

from outlay.actions.notices import approvals_at
from outlay.config import Config
from outlay.core.message import is_address, one_line, together
from outlay.core.seams import SECOND
from outlay.store.notify import Envelope

TIMEOUT_S = 20.0
"""How long each answer of the mail server is waited for."""

ERROR_MAX = 200


class Mail:
    """Sends envelopes by mail."""

    def __init__(self, config: Config, *, password: Callable[[], str], timeout_s: float = TIMEOUT_S) -> None:
        """Keep the settings; ``password`` reads the file when it is needed, so that it can be exchanged."""
        self._settings, self._password, self._timeout_s = config.notify, password, timeout_s
        self._public_url, self._where = config.server.public_url, approvals_at(config)

    async def send(self, envelopes: Sequence[Envelope]) -> dict[int, str | None]:
        """Send each envelope; return by number None where the mail server took it, else what went wrong."""
        loop = asyncio.get_running_loop()
        sent: asyncio.Future[dict[int, str | None]] = loop.create_future()

        def settle(outcomes: dict[int, str | None]) -> None:
            if not sent.done():
                sent.set_result(outcomes)

        def work() -> None:
            outcomes = self._send(envelopes)
            with contextlib.suppress(RuntimeError):  # the process ends, and nobody waits for it any more
                loop.call_soon_threadsafe(settle, outcomes)

        # Not one of the loop's own threads: those are waited for at the end, as long as a mail server likes.
        threading.Thread(target=work, name="mail", daemon=True).start()
        return await sent

    def _send(self, envelopes: Sequence[Envelope]) -> dict[int, str | None]:
        outcomes: dict[int, str | None] = {}
        try:
            with self._connect() as server:
                for each in envelopes:
                    outcomes[each.number] = self._tell(server, each)
        except Exception as error:
            # Whatever a mail server does is an outcome. What was taken before stays taken.
            outcomes = {each.number: reason(error) for each in envelopes} | {
                number: outcome for number, outcome in outcomes.items() if outcome is None
            }
        return outcomes

    def _connect(self) -> smtplib.SMTP:
        """Return a connection that may be written to. Raises OSError or SMTPException."""
        settings = self._settings
        context = ssl.create_default_context()
        if settings.smtp_ca_file:
            context.load_verify_locations(settings.smtp_ca_file)
        host, port = settings.smtp_host, settings.smtp_port
        server: smtplib.SMTP
        if settings.smtp_security == "tls":
            server = smtplib.SMTP_SSL(host, port, timeout=self._timeout_s, context=context)
        else:
            server = smtplib.SMTP(host, port, timeout=self._timeout_s)
        try:
            if settings.smtp_security == "starttls":
                server.starttls(context=context)  # raises where the server does not offer it: nothing goes in the clear
            if settings.smtp_user:
                server.login(settings.smtp_user, self._password())
        except BaseException:
            server.close()
            raise
        return server

    def _tell(self, server: smtplib.SMTP, envelope: Envelope) -> str | None:
        """Send one envelope in an open conversation. Raises where the conversation is at its end."""
        try:
            server.send_message(self.written(envelope))
        except smtplib.SMTPServerDisconnected:
            raise
        except smtplib.SMTPException as error:
            return reason(error)
        return None

    def written(self, envelope: Envelope) -> EmailMessage:
        """Return the mail of an envelope: the same, under the same Message-ID, however often it is sent."""
        message = together(envelope.messages, where=self._where)
        if not is_address(envelope.place):
            raise ValueError("not an e-mail address")
        mail = EmailMessage(policy=SMTP)
        mail["From"] = self._settings.mail_from
        mail["To"] = envelope.place
        mail["Subject"] = f"[Outlay] {message.title}"
        mail["Date"] = datetime.fromtimestamp(envelope.at // SECOND, UTC)
        mail["Message-ID"] = f"<outlay.{envelope.number}.{envelope.at}@{urlsplit(self._public_url).hostname}>"
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(message.text + "\n")
        return mail


def reason(error: Exception) -> str:
    """Return what went wrong, on one line."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        answers: Mapping[str, tuple[int, bytes]] = error.recipients
        return one_line("; ".join(f"{code} {text.decode(errors='replace')}" for code, text in answers.values()))[
            :ERROR_MAX
        ]
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return f"the mail server refused the login ({error.smtp_code})"
    if isinstance(error, smtplib.SMTPResponseException):
        said = error.smtp_error if isinstance(error.smtp_error, str) else error.smtp_error.decode(errors="replace")
        return one_line(f"{error.smtp_code} {said}")[:ERROR_MAX]
    if isinstance(error, ssl.SSLError):
        return one_line(f"no TLS connection could be made: {error.reason or error}")[:ERROR_MAX]
    return one_line(str(error) or type(error).__name__)[:ERROR_MAX]
