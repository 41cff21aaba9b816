"""Mail servers that refuse, hang, and promise what they do not have; and what gets through."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from email import message_from_bytes, policy
from typing import Any, Final

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from shared.email import mails
from shared.email.mailer import SmtpMailer
from shared.errors import Invalid, Unavailable
from shared.settings import Settings
from tests.ports import free_port

MAIL: Final = mails.alert_triggered(
    "ada@example.com",
    name="Zu heiß 🔥 " + "sehr " * 25,
    severity="critical",
    message="Größer als 90 °C",
    when="2026-01-01 00:00 UTC",
    url="http://localhost:3000/alerts/1",
    key="one",
)


class Answers:
    """Keeps mails, and answers each step as it was told."""

    def __init__(self, **answers: str) -> None:
        self.answers = answers
        self.taken: list[Envelope] = []

    async def handle_MAIL(
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return self.answers.get("mail", "250 OK")

    async def handle_RCPT(
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: Any
    ) -> str:
        envelope.rcpt_tos.append(address)
        return self.answers.get("rcpt", "250 OK")

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        self.taken.append(envelope)
        return self.answers.get("data", "250 OK")


@contextmanager
def served(handler: Answers, **options: Any) -> Iterator[Settings]:
    """Settings of a mailer to a server with *handler*."""
    port = free_port()
    controller = Controller(handler, hostname="127.0.0.1", port=port, **options)
    controller.start()
    try:
        yield Settings(smtp_host="localhost", smtp_port=port, smtp_secure="none")
    finally:
        controller.stop()


@asynccontextmanager
async def greeting(greet: Callable[[asyncio.StreamWriter], None]) -> AsyncIterator[Settings]:
    """A server that says what *greet* writes, and then nothing for as long as it is asked."""

    talks: list[asyncio.Task[Any]] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talks.append(task)
        greet(writer)
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        port = server.sockets[0].getsockname()[1]
        yield Settings(smtp_host="127.0.0.1", smtp_port=port, smtp_secure="none")
    finally:
        # A talk ends when the mailer has closed its connection, which it must.
        async with asyncio.timeout(5):
            await asyncio.gather(*talks)
        server.close()
        await server.wait_closed()


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


def serving(authority: trustme.CA, name: str = "localhost") -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    return context


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def check_password(_server: Any, _session: Any, _envelope: Any, _how: str, data: Any) -> AuthResult:
    return AuthResult(success=data.password == b"right", handled=False)


async def test_S57_one_mail_goes_to_one_recipient_with_all_its_characters() -> None:
    answers = Answers()
    with served(answers) as settings:
        await SmtpMailer(settings).send(MAIL)

    (envelope,) = answers.taken
    assert envelope.rcpt_tos == ["ada@example.com"]
    assert isinstance(envelope.content, bytes)
    assert max(map(len, envelope.content.split(b"\r\n"))) <= 998
    message = message_from_bytes(envelope.content, policy=policy.default)
    assert message["Subject"] == MAIL.subject
    text = message.get_body(("plain",))
    assert text is not None
    assert "Größer als 90 °C" in text.get_content()


@pytest.mark.parametrize("step", ["mail", "rcpt", "data"])
@pytest.mark.parametrize(
    ("answer", "error"), [("451 later", Unavailable), ("550 never", Invalid)], ids=["4xx", "5xx"]
)
async def test_a_refusal_at_any_step_is_for_later_or_for_good(
    step: str, answer: str, error: type[Exception]
) -> None:
    with served(Answers(**{step: answer})) as settings, pytest.raises(error) as caught:
        await SmtpMailer(settings).send(MAIL)
    assert caught.type is error


async def test_a_server_that_refuses_us_before_it_saw_the_mail_is_tried_later() -> None:
    async with greeting(lambda writer: writer.write(b"554 no service here\r\n")) as settings:
        with pytest.raises(Unavailable, match="554"):
            await SmtpMailer(settings).send(MAIL)


@pytest.mark.parametrize("said", [b"", b"220 hello\r\n", b"no mail server\r\n"])
async def test_a_server_that_hangs_is_given_up(said: bytes, monkeypatch: Any) -> None:
    monkeypatch.setattr("shared.email.mailer.SMTP_SECONDS_MAX", 0.3)
    async with greeting(lambda writer: writer.write(said)) as settings, asyncio.timeout(5):
        with pytest.raises(Unavailable):
            await SmtpMailer(settings).send(MAIL)


async def test_a_server_that_hangs_up_is_tried_later() -> None:
    async with greeting(lambda writer: writer.close()) as settings:
        with pytest.raises(Unavailable, match="does not take"):
            await SmtpMailer(settings).send(MAIL)


async def test_a_password_that_is_refused_is_named_but_not_told(authority: trustme.CA) -> None:
    answers = Answers()
    options = {"authenticator": check_password, "auth_required": True, "require_starttls": True}
    with served(answers, tls_context=serving(authority), **options) as settings:
        signed = replace(settings, smtp_secure="starttls", smtp_user="u", smtp_pass="wr0ng-0ne")
        with pytest.raises(Unavailable, match="SMTP_USER and SMTP_PASS") as caught:
            await SmtpMailer(signed, trusting(authority)).send(MAIL)
        assert "wr0ng-0ne" not in f"{caught.value} {caught.value.__cause__}"
        await SmtpMailer(replace(signed, smtp_pass="right"), trusting(authority)).send(MAIL)
    assert len(answers.taken) == 1


async def test_a_server_without_STARTTLS_gets_no_mail_in_the_clear() -> None:
    answers = Answers()
    with served(answers) as settings, pytest.raises(Unavailable):
        await SmtpMailer(replace(settings, smtp_secure="starttls")).send(MAIL)
    assert answers.taken == []


@pytest.mark.parametrize("name", ["localhost", "mail.example.com"])
async def test_a_certificate_of_nobody_or_of_another_host_is_refused(
    authority: trustme.CA, name: str
) -> None:
    trusted = ssl.create_default_context() if name == "localhost" else trusting(authority)
    answers = Answers()
    with served(answers, tls_context=serving(authority, name)) as settings:
        mailer = SmtpMailer(replace(settings, smtp_secure="starttls"), trusted)
        with pytest.raises(Unavailable):
            await mailer.send(MAIL)
    assert answers.taken == []


async def test_mails_travel_by_TLS_from_the_first_byte(authority: trustme.CA) -> None:
    answers = Answers()
    with served(answers, ssl_context=serving(authority)) as settings:
        await SmtpMailer(replace(settings, smtp_secure="tls"), trusting(authority)).send(MAIL)
    assert len(answers.taken) == 1
