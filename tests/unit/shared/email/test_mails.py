"""Every mail: what it says, how it is escaped, to whom it goes and where its link leads."""

import inspect
from collections.abc import Callable
from dataclasses import replace
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import getaddresses, parsedate_to_datetime
from typing import Any, Final

import pytest

from shared.email import mails
from shared.email.mailer import composed, open_mailer
from shared.email.mails import ALERT_NAME_CHARACTERS_MAX, COLOUR_OF_SEVERITY, Mail
from shared.errors import Invalid
from shared.settings import Settings

SETTINGS: Final = Settings(app_url="https://app.example.com/")
URL: Final = "https://app.example.com/verify-email#token=tfe_secret"
HOSTILE: Final = "<img src=x onerror=alert(1)>\"'&{{7*7}}${7*7}{0.__class__}"
# A good value for every parameter of every mail.
VALUES: Final[dict[str, Any]] = {
    "key_id": "tfk_0123456789abcdef0123456789abcdef",
    "first_name": "Ada",
    "url": URL,
    "hours": 24,
    "by": "grace@example.com",
    "organization": "Example",
    "days": 7,
    "minutes": 15,
    "when": "2026-01-01 00:00 UTC",
    "address": "203.0.113.7",
    "support": "support@example.com",
    "agent": "curl",
    "is_on": True,
    "what": "Something.",
    "name": "CPU",
    "severity": "critical",
    "message": "Too hot.",
    "signal": "logs",
    "used": 80_000,
    "most": 100_000,
    "until": "2026-01-08 00:00 UTC",
    "month": "January 2026",
    "facts": [("Entries", "12")],
    "table": mails.Attachment("audit-2026-01.csv", b"action,entries\r\n"),
}
KINDS: Final[dict[str, Callable[..., Mail]]] = {
    name: kind
    for name, kind in inspect.getmembers(mails, inspect.isfunction)
    if kind.__module__ == mails.__name__ and not name.startswith("_")
}
TYPED: Final = [
    (kind, name)
    for kind in KINDS
    for name, parameter in inspect.signature(KINDS[kind]).parameters.items()
    if parameter.annotation is str and name not in {"to", "key", "url", "severity"}
]


def mail_of(kind: str, to: str = "ada@example.com", **values: Any) -> Mail:
    wanted = inspect.signature(KINDS[kind]).parameters.keys() - {"to", "key"}
    return KINDS[kind](to, key="one", **{name: (VALUES | values)[name] for name in wanted})


def part_of(message: EmailMessage, kind: str) -> str:
    part = message.get_body((kind,))
    assert part is not None
    content = part.get_content()
    assert isinstance(content, str)
    return content


def recipients_of(message: EmailMessage) -> list[str]:
    fields = [str(value) for name in ("To", "Cc", "Bcc") for value in message.get_all(name, [])]
    return [address for _, address in getaddresses(fields)]


def test_all_kinds_of_mail_are_under_test() -> None:
    assert len(KINDS) == 17


@pytest.mark.parametrize("kind", KINDS)
def test_every_mail_says_the_same_as_text_and_as_HTML(kind: str) -> None:
    mail = mail_of(kind)

    message = composed(mail, SETTINGS)

    kind_of_all = "multipart/mixed" if mail.attachments else "multipart/alternative"
    assert message.get_content_type() == kind_of_all
    text, html = part_of(message, "plain"), part_of(message, "html")
    for said in [mail.title, *mail.paragraphs, *(value for _, value in mail.facts)]:
        assert said in text
        assert said in html
    assert mail.colour in html
    assert "support@telemetryflow.id" in text
    assert "src=" not in html
    assert "<script" not in html


@pytest.mark.parametrize(("kind", "name"), TYPED)
def test_S58_S60_whatever_people_typed_is_text_and_no_markup(kind: str, name: str) -> None:
    message = composed(mail_of(kind, **{name: HOSTILE}), SETTINGS)

    text, html = part_of(message, "plain"), part_of(message, "html")
    assert HOSTILE in text
    assert "<img" not in html
    assert "&lt;img src=x onerror=alert(1)&gt;&#34;&#39;&amp;{{7*7}}${7*7}" in html
    assert "49" not in html.replace(mails.WARNING, "")


@pytest.mark.parametrize(
    "to",
    [
        "",
        "nobody",
        "a@",
        "@example.com",
        "a@localhost",
        "a@example.com, b@example.com",
        "a@example.com;b@example.com",
        "a@example.com b@example.com",
        "Bob <b@example.com>",
        "group: a@example.com, b@example.com;",
        '"a b"@example.com',
        "a@[127.0.0.1]",
        "a..b@example.com",
        "é@example.com",
        "a@-example.com",
        f"{'a' * 65}@example.com",
        f"a@{'b' * 60}.{'c' * 60}.{'d' * 60}.{'e' * 60}.{'f' * 60}.com",
    ],
)
def test_S57_what_is_not_one_address_gets_no_mail(to: str) -> None:
    with pytest.raises(Invalid, match="not one e-mail address"):
        composed(mail_of("welcome", to), SETTINGS)


@pytest.mark.parametrize("to", ["a.b+c@mail.example.com", "o'hara@example.co", "1@x-y.example"])
def test_an_ordinary_address_gets_its_mail(to: str) -> None:
    assert recipients_of(composed(mail_of("welcome", to), SETTINGS)) == [to]


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r", "\0", "\x0b", "\x85", "\u2028", "\u2029"])
def test_S57_no_line_end_of_any_kind_gets_into_a_header(end: str) -> None:
    mail = mail_of("welcome")
    with pytest.raises(Invalid, match="line end"):
        composed(replace(mail, subject=f"x{end}Bcc: all@example.com"), SETTINGS)
    with pytest.raises(Invalid, match="line end"):
        composed(replace(mail, to=f"a@example.com{end}Bcc: all@example.com"), SETTINGS)


@pytest.mark.parametrize("end", ["\r\n", "\0", "\x7f", "\x85", "\u2028"])
def test_S57_an_alert_with_a_line_end_in_its_name_is_told_of_to_one_person(end: str) -> None:
    message = composed(mail_of("alert_triggered", name=f"x{end}Bcc: all@example.com"), SETTINGS)

    assert message["Subject"] == "[critical] x Bcc: all@example.com"
    assert recipients_of(message) == ["ada@example.com"]


@pytest.mark.parametrize(
    "hidden",
    [
        "=?utf-8?q?x=0D=0ABcc:_all=40example.com?=",
        "=?utf-8?b?eA0KQmNjOiBhbGxAZXhhbXBsZS5jb20=?=",
        "Ü =?utf-8?q?x=0D=0ABcc:_all=40example.com?= Ü",
        "==?utf-8?q?x=0D=0ABcc:_all=40example.com?=",
        "=?=?utf-8?q?x=0D=0ABcc:_all=40example.com?=",
    ],
)
def test_S57_a_line_end_that_hides_in_an_encoded_word_stays_there(hidden: str) -> None:
    message = composed(mail_of("invitation", organization=hidden), SETTINGS)

    for rules in (policy.default, policy.SMTP):
        head = message.as_bytes(policy=rules).replace(b"\r\n", b"\n").partition(b"\n\n")[0]
        assert b"\nBcc" not in head
        assert len(message_from_bytes(head, policy=policy.default).keys()) == len(message.keys())


def test_a_name_of_an_alert_is_cut_where_subjects_end() -> None:
    mail = mails.alert_resolved("a@example.com", name="x" * 10_000, when="", url=URL, key="one")
    assert mail.subject == "[resolved] " + "x" * ALERT_NAME_CHARACTERS_MAX


@pytest.mark.parametrize("severity", COLOUR_OF_SEVERITY)
def test_an_alert_wears_the_colour_of_its_severity(severity: str) -> None:
    assert mail_of("alert_triggered", severity=severity).colour == COLOUR_OF_SEVERITY[severity]


def test_a_severity_that_nobody_knows_is_refused() -> None:
    with pytest.raises(Invalid, match="critical, warning, info"):
        mail_of("alert_triggered", severity="purple")


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "//evil.example/x",
        "https://evil.example/",
        "https://app.example.com.evil.example/",
        "https://app.example.com@evil.example/",
        "https://app.example.com:444/",
        "http://app.example.com/",
        "",
    ],
)
def test_a_link_that_leads_elsewhere_is_refused(url: str) -> None:
    with pytest.raises(Invalid, match="APP_URL"):
        composed(mail_of("password_reset", url=url), SETTINGS)


def test_the_token_of_a_link_is_in_no_representation() -> None:
    assert "tfe_secret" not in repr(mail_of("verification"))


def test_a_character_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(Invalid, match="cannot be written"):
        composed(mail_of("welcome", first_name="\ud800"), SETTINGS)


def test_a_mail_says_when_it_was_made_and_that_a_program_made_it() -> None:
    message = composed(mail_of("welcome"), SETTINGS)
    assert parsedate_to_datetime(message["Date"]).tzinfo is not None
    assert message["Auto-Submitted"] == "auto-generated"


@pytest.mark.parametrize(
    ("sender", "name"),
    [
        ("noreply@example.com", ""),
        ("TelemetryFlow <noreply@example.com>", "TelemetryFlow"),
        ('"Example, Inc." <noreply@example.com>', "Example, Inc."),
        ("Example, Inc. <noreply@example.com>", "Example, Inc."),
        ("Müller <noreply@example.com>", "Müller"),
    ],
)
def test_the_sender_may_have_a_name(sender: str, name: str) -> None:
    (address,) = composed(mail_of("welcome"), replace(SETTINGS, smtp_from=sender))["From"].addresses
    assert (address.display_name, address.addr_spec) == (name, "noreply@example.com")


@pytest.mark.parametrize(
    "sender",
    [
        "",
        "nobody",
        "a@b.org, c@d.org",
        "X <a@b.org>\r\nBcc: c@d.org",
        "X\n <a@b.org>",
        "=?utf-8?q?x=0A?= <a@b.org>",
    ],
)
def test_a_sender_that_can_send_nothing_is_refused_at_the_start(sender: str) -> None:
    with pytest.raises(Invalid, match="SMTP_FROM"):
        open_mailer(replace(SETTINGS, smtp_from=sender))


@pytest.mark.parametrize("app_url", ["", "app.example.com", "javascript:alert(1)"])
def test_an_address_of_the_product_that_is_no_link_is_refused_at_the_start(app_url: str) -> None:
    with pytest.raises(Invalid, match="APP_URL"):
        open_mailer(replace(SETTINGS, app_url=app_url))
