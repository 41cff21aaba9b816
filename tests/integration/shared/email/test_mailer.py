"""Mails against a real SMTP server, good and bad."""

import asyncio
import ssl
from collections.abc import Iterator
from dataclasses import replace
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from shared.email import mails
from shared.email.mailer import FolderMailer, SmtpMailer, composed, open_mailer
from shared.email.mails import Mail
from shared.errors import Invalid, Unavailable
from shared.settings import Settings
from tests.ports import free_port

MAIL = mails.invitation(
    "ada@example.com",
    first_name="<b>Ada</b>",
    by="grace@example.com",
    organization="Example & Sons",
    url="http://localhost:3000/accept-invitation#token=tfi_x",
    days=7,
    key="one",
)


class Inbox:
    """What the server does with a mail: keeps it, or answers as it was told."""

    def __init__(self) -> None:
        self.contents: list[bytes] = []
        self.answer = "250 taken"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        self.contents.append(envelope.content)
        return self.answer


class Server(Controller):
    """On a port of its own."""

    def __init__(self, inbox: Inbox, **options: Any) -> None:
        self.bound = free_port()
        super().__init__(inbox, hostname="127.0.0.1", port=self.bound, **options)


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def server(inbox: Inbox) -> Iterator[Server]:
    server = Server(inbox)
    server.start()
    yield server
    server.stop()


def settings(port: int, **values: Any) -> Settings:
    chosen: dict[str, Any] = {"smtp_secure": "none", **values}
    return Settings(smtp_host="127.0.0.1", smtp_port=port, **chosen)


async def test_a_mail_arrives_as_text_and_HTML(server: Server, inbox: Inbox) -> None:
    await SmtpMailer(settings(server.bound)).send(MAIL)

    message = message_from_bytes(inbox.contents[0], policy=policy.default)
    text = message.get_body(("plain",))
    html = message.get_body(("html",))
    assert text is not None
    assert html is not None
    assert message["Subject"] == "Join Example & Sons on TelemetryFlow"
    assert "accept-invitation#token=tfi_x" in text.get_content()
    assert "Example & Sons" in text.get_content()
    # S58: what people typed is text, never markup.
    assert "<b>Ada</b>" not in html.get_content()
    assert "&lt;b&gt;Ada&lt;/b&gt;" in html.get_content()


def test_the_same_mail_has_the_same_id() -> None:
    assert composed(MAIL, Settings())["Message-ID"] == composed(MAIL, Settings())["Message-ID"]
    other = replace(MAIL, dedupe_key="two")
    assert composed(MAIL, Settings())["Message-ID"] != composed(other, Settings())["Message-ID"]


@pytest.mark.parametrize("line", ["x\r\nBcc: all@example.com", "x\ny", "x\x00y"])
def test_S57_a_header_cannot_break_out_of_its_line(line: str) -> None:
    with pytest.raises(Invalid, match="line end"):
        composed(replace(MAIL, subject=line), Settings())
    with pytest.raises(Invalid, match="line end"):
        composed(replace(MAIL, to=f"a@example.com{line}"), Settings())


@pytest.mark.parametrize(
    ("answer", "error"),
    [("451 later", Unavailable), ("550 never", Invalid)],
)
async def test_what_the_server_refuses_is_for_later_or_for_good(
    server: Server, inbox: Inbox, answer: str, error: type[Exception]
) -> None:
    inbox.answer = answer

    with pytest.raises(error):
        await SmtpMailer(settings(server.bound)).send(MAIL)


async def test_a_server_that_is_away_is_tried_later() -> None:
    with pytest.raises(Unavailable, match="does not take"):
        await SmtpMailer(settings(9)).send(MAIL)


async def test_mails_travel_encrypted_and_behind_a_password(inbox: Inbox) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(serving)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)

    def check(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> Any:
        return AuthResult(success=data.password == b"right", handled=False)

    server = Server(
        inbox,
        require_starttls=True,
        tls_context=serving,
        authenticator=check,
        auth_required=True,
    )
    server.start()
    try:
        values = replace(
            settings(server.bound, smtp_secure="starttls", smtp_user="u", smtp_pass="right"),
            smtp_host="localhost",
        )
        await SmtpMailer(values, trusting).send(MAIL)
        with pytest.raises(Unavailable, match="SMTP_USER"):
            await SmtpMailer(replace(values, smtp_pass="wrong"), trusting).send(MAIL)
    finally:
        server.stop()
    assert len(inbox.contents) == 1


async def test_without_a_server_mails_are_files_and_the_log_has_no_link(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mailer = open_mailer(Settings(telemetryflow_data_dir=str(tmp_path)))
    assert isinstance(mailer, FolderMailer)

    await mailer.send(MAIL)

    (file,) = (tmp_path / "mails").iterdir()
    assert b"tfi_x" in file.read_bytes()
    assert file.stat().st_mode & 0o077 == 0
    assert "tfi_x" not in caplog.text
    assert str(file) in caplog.text


async def _rendered(mail: Mail) -> str:
    return composed(mail, Settings()).as_string()


async def test_every_kind_of_mail_can_be_made() -> None:
    to, key, url, when = "a@example.com", "k", "http://localhost:3000/x", "2026-01-01 00:00 UTC"
    every = [
        MAIL,
        mails.verification(to, first_name="", url=url, hours=24, key=key),
        mails.welcome(to, first_name="A", url=url, key=key),
        mails.already_registered(to, url=url, key=key),
        mails.password_reset(to, url=url, minutes=60, key=key),
        mails.password_changed(to, when=when, address="203.0.113.7", url=url, key=key),
        mails.account_locked(to, minutes=15, address="203.0.113.7", support=to, key=key),
        mails.sign_in_from_new_address(
            to, when=when, address="203.0.113.7", agent="curl", url=url, key=key
        ),
        mails.second_factor_changed(to, is_on=True, when=when, support=to, key=key),
        mails.suspicious_activity(to, what="Something.", when=when, url=url, key=key),
    ]

    texts = await asyncio.gather(*map(_rendered, every))

    assert all("TelemetryFlow" in text for text in texts)
