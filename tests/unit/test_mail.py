"""Mail through a real mail server: encrypted and logged in, or not at all."""

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from outlay.config import parse
from outlay.core.message import Message
from outlay.engine.mail import Mail
from outlay.store.notify import Envelope
from tests.tools import free_port

USER, PASSWORD = "outlay", "correct horse"
ADDRESS = "0x" + "A1" * 20


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate of its own for localhost, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


class Office:
    """A mail server that keeps what it gets."""

    def __init__(self) -> None:
        self.mails: list[tuple[str, Any]] = []
        self.refused: set[str] = set()
        self.logins: list[bytes] = []
        self.encrypted: list[bool] = []

    async def handle_RCPT(self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any) -> str:
        if address in self.refused:
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, session: Any, envelope: Any) -> str:
        self.encrypted.append(session.ssl is not None)  # by STARTTLS
        (to,) = envelope.rcpt_tos
        self.mails.append((to, message_from_bytes(envelope.content, policy=policy.default)))
        return "250 taken"

    def authenticate(self, _server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        """Let in who knows the password."""
        self.logins.append(data.login)
        is_right = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(success=is_right, handled=False)


@contextmanager
def serving(office: Office, certificate: Path, security: str) -> Iterator[int]:
    """Serve; yield the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    options: dict[str, Any] = {"authenticator": office.authenticate, "auth_required": security == "starttls"}
    if security == "starttls":
        options |= {"tls_context": context, "require_starttls": True}
    elif security == "tls":
        options |= {"ssl_context": context, "auth_require_tls": False}
    controller = Controller(office, hostname="localhost", port=free_port(), **options)
    controller.start()
    try:
        yield controller.port
    finally:
        controller.stop()


def client(port: int, security: str, *, ca: Path | None, password: str = PASSWORD, host: str = "localhost") -> Mail:
    """Return the channel, with a user where the connection is encrypted."""
    lines = [
        "[notify]",
        f'smtp_host = "{host}"',
        f"smtp_port = {port}",
        f'smtp_security = "{security}"',
        'mail_from = "outlay@example.com"',
    ]
    if security != "none":
        lines += [f'smtp_user = "{USER}"', 'smtp_password_file = "unused"']
    if ca is not None:
        lines.append(f'smtp_ca_file = "{ca}"')
    return Mail(parse("\n".join(lines)), password=lambda: password, timeout_s=5)


def envelope(number: int = 1, place: str = "one@example.com") -> Envelope:
    message = Message(
        "12,500 USDC waits for approval", f"To            {ADDRESS}\n.\nMemo          täglich " + "x" * 200
    )
    return Envelope(number=number, at=1_800_000_000_000_000, place=place, messages=[message])


@pytest.mark.parametrize("security", ["starttls", "tls", "none"])
def test_a_mail_arrives_whole(certificate: Path, security: str) -> None:
    office = Office()
    with serving(office, certificate, security) as port:
        mail = client(port, security, ca=certificate)
        assert asyncio.run(mail.send([envelope(1), envelope(2, "two@example.com")])) == {1: None, 2: None}
    assert [to for to, _ in office.mails] == ["one@example.com", "two@example.com"]
    first = office.mails[0][1]
    assert first["Subject"] == "[Outlay] 12,500 USDC waits for approval"
    assert ADDRESS in first.get_content()
    assert "täglich" in first.get_content()
    assert office.encrypted == [security == "starttls"] * 2
    assert office.logins == ([] if security == "none" else [USER.encode()])


def test_one_address_that_is_refused_stops_no_other(certificate: Path) -> None:
    office = Office()
    office.refused = {"gone@example.com"}
    with serving(office, certificate, "starttls") as port:
        mail = client(port, "starttls", ca=certificate)
        answers = asyncio.run(
            mail.send([envelope(1), envelope(2, "gone@example.com"), envelope(3, "three@example.com")])
        )
    assert answers == {1: None, 2: "550 no such mailbox", 3: None}


def test_nothing_goes_to_a_server_whose_certificate_is_not_trusted(certificate: Path) -> None:
    for security in ("starttls", "tls"):
        office = Office()
        with serving(office, certificate, security) as port:
            answers = asyncio.run(client(port, security, ca=None).send([envelope()]))
        assert "CERTIFICATE_VERIFY_FAILED" in str(answers[1])
        assert (office.mails, office.logins) == ([], [])


def test_nothing_goes_in_the_clear_where_the_server_offers_no_encryption(certificate: Path) -> None:
    office = Office()
    with serving(office, certificate, "none") as port:
        answers = asyncio.run(client(port, "starttls", ca=certificate).send([envelope()]))
    assert "STARTTLS" in str(answers[1])
    assert (office.mails, office.logins) == ([], [])


def test_a_wrong_password_is_said_and_not_shown(certificate: Path) -> None:
    office = Office()
    with serving(office, certificate, "starttls") as port:
        answers = asyncio.run(client(port, "starttls", ca=certificate, password="CANARY").send([envelope()]))
    assert answers == {1: "the mail server refused the login (535)"}
    assert office.mails == []


def test_a_server_that_is_not_there_or_says_nothing_is_an_outcome() -> None:
    answers = asyncio.run(client(free_port(), "starttls", ca=None).send([envelope(1), envelope(2)]))
    assert set(answers) == {1, 2}
    assert all("refused" in str(error) for error in answers.values())

    async def silent() -> dict[int, str | None]:
        server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            mail = client(port, "starttls", ca=None, host="127.0.0.1")
            mail._timeout_s = 0.2
            return await mail.send([envelope()])

    assert asyncio.run(silent()) == {1: "Connection unexpectedly closed: timed out"}


def test_a_process_that_ends_does_not_wait_for_a_mail_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mail = client(silent.getsockname()[1], "starttls", ca=None, host="127.0.0.1")
        mail._timeout_s = 30

        async def leave() -> None:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await mail.send([envelope()])

        before = datetime.now(UTC)
        asyncio.run(leave())
        assert datetime.now(UTC) - before < timedelta(seconds=20)
