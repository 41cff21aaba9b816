"""What each mail says: one function a kind, whose arguments are what the mail needs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from shared.errors import Invalid

INFO: Final = "#2196f3"
WARNING: Final = "#ff9800"
CRITICAL: Final = "#f44336"
COLOUR_OF_SEVERITY: Final = {"critical": CRITICAL, "warning": WARNING, "info": INFO}
# Alerts are named and worded by people, and by the telemetry that they watch.
ALERT_NAME_CHARACTERS_MAX: Final = 150
ALERT_MESSAGE_CHARACTERS_MAX: Final = 2_000


@dataclass(frozen=True, slots=True)
class Action:
    """A button: where it leads is built from the configured address alone."""

    label: str
    # It may hold a token, which belongs into no log.
    url: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Attachment:
    """A table (CSV) that goes with a mail."""

    name: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail, before it is rendered; the same *dedupe_key* gives the same Message-ID."""

    to: str
    subject: str
    title: str
    paragraphs: Sequence[str]
    dedupe_key: str
    facts: Sequence[tuple[str, str]] = field(default_factory=tuple)
    action: Action | None = None
    colour: str = INFO
    attachments: Sequence[Attachment] = field(default_factory=tuple)


def verification(to: str, *, first_name: str, url: str, hours: int, key: str) -> Mail:
    """To confirm an address."""
    return Mail(
        to=to,
        subject="Confirm your e-mail address",
        title=f"Welcome, {first_name}" if first_name else "Confirm your e-mail address",
        paragraphs=[
            f"Open the link within {hours} hours to confirm that this address is yours.",
            "If you did not ask for this, do nothing.",
        ],
        action=Action("Confirm the address", url),
        dedupe_key=key,
    )


def audit_report(
    to: str,
    *,
    organization: str,
    month: str,
    facts: Sequence[tuple[str, str]],
    table: Attachment,
    url: str,
    key: str,
) -> Mail:
    """What happened in an organization in a month."""
    return Mail(
        to=to,
        subject=f"Audit report of {month}",
        title=f"Audit report of {month}",
        paragraphs=[
            f"This is what the audit trail of {organization} tells about {month}.",
            "The attached table counts every kind of action.",
        ],
        facts=facts,
        attachments=(table,),
        action=Action("Open TelemetryFlow", url),
        dedupe_key=key,
    )


def welcome(to: str, *, first_name: str, url: str, key: str) -> Mail:
    """After an address was confirmed."""
    return Mail(
        to=to,
        subject="Welcome to TelemetryFlow",
        title=f"Welcome, {first_name}" if first_name else "Welcome",
        paragraphs=["Your address is confirmed. Sign in, and send your first trace."],
        action=Action("Open TelemetryFlow", url),
        dedupe_key=key,
    )


def already_registered(to: str, *, url: str, key: str) -> Mail:
    """Somebody registered with a known address."""
    return Mail(
        to=to,
        subject="You have an account already",
        title="You have an account already",
        paragraphs=[
            "Somebody, maybe you, registered with this address, which has an account.",
            "Sign in, or ask for another password if you forgot it.",
        ],
        action=Action("Open TelemetryFlow", url),
        dedupe_key=key,
    )


def invitation(
    to: str, *, first_name: str, by: str, organization: str, url: str, days: int, key: str
) -> Mail:
    """Somebody is asked to join an organization."""
    who = by or "An administrator"
    return Mail(
        to=to,
        subject=f"Join {organization} on TelemetryFlow",
        title=f"Hello {first_name}" if first_name else "Hello",
        paragraphs=[
            f"{who} invites you to join {organization} on TelemetryFlow.",
            f"Open the link within {days} days and choose a password.",
        ],
        action=Action("Accept the invitation", url),
        dedupe_key=key,
    )


def password_reset(to: str, *, url: str, minutes: int, key: str) -> Mail:
    """Somebody forgot the password."""
    return Mail(
        to=to,
        subject="Choose another password",
        title="Choose another password",
        paragraphs=[
            f"Open the link within {minutes} minutes. It works once.",
            "If you did not ask for this, do nothing: your password stays as it is.",
        ],
        action=Action("Choose a password", url),
        dedupe_key=key,
    )


def password_changed(to: str, *, when: str, address: str, url: str, key: str) -> Mail:
    """A password was changed."""
    return Mail(
        to=to,
        subject="Your password was changed",
        title="Your password was changed",
        paragraphs=["If that was not you, ask for another password at once."],
        facts=[("When", when), ("From", address)],
        action=Action("It was not me", url),
        colour=WARNING,
        dedupe_key=key,
    )


def account_locked(to: str, *, minutes: int, address: str, support: str, key: str) -> Mail:
    """Too many sign-ins failed from an address."""
    return Mail(
        to=to,
        subject="Sign-ins from an address were locked out",
        title="Sign-ins from an address were locked out",
        paragraphs=[
            f"Too many sign-ins to your account failed from {address}.",
            f"It is locked out for {minutes} minutes. From elsewhere you can sign in as ever.",
            f"If that was not you, choose another password, and tell {support}.",
        ],
        colour=WARNING,
        dedupe_key=key,
    )


def sign_in_from_new_address(
    to: str, *, when: str, address: str, agent: str, url: str, key: str
) -> Mail:
    """An account was used from an address for the first time."""
    return Mail(
        to=to,
        subject="Sign-in from a new address",
        title="Sign-in from a new address",
        paragraphs=["If that was not you, choose another password and end all sessions."],
        facts=[("When", when), ("From", address), ("With", agent)],
        action=Action("It was not me", url),
        dedupe_key=key,
    )


def second_factor_changed(to: str, *, is_on: bool, when: str, support: str, key: str) -> Mail:
    """A second factor was switched on or off."""
    state = "on" if is_on else "off"
    return Mail(
        to=to,
        subject=f"Your second factor is {state}",
        title=f"Your second factor is {state}",
        paragraphs=[f"If that was not you, tell {support} at once."],
        facts=[("When", when)],
        colour=INFO if is_on else WARNING,
        dedupe_key=key,
    )


def suspicious_activity(to: str, *, what: str, when: str, url: str, key: str) -> Mail:
    """An account may be in other hands."""
    return Mail(
        to=to,
        subject="Unusual activity on your account",
        title="Unusual activity on your account",
        paragraphs=[what, "We ended the session. If that was not you, choose another password."],
        facts=[("When", when)],
        action=Action("Choose a password", url),
        colour=CRITICAL,
        dedupe_key=key,
    )


def alert_triggered(
    to: str, *, name: str, severity: str, message: str, when: str, url: str, key: str
) -> Mail:
    """An alert fires; *severity* is critical, warning or info, anything else is Invalid."""
    colour = COLOUR_OF_SEVERITY.get(severity)
    if colour is None:
        raise Invalid(f"choose a severity of {', '.join(COLOUR_OF_SEVERITY)}", field="severity")
    subject = f"[{severity}] {_on_one_line(name)}"
    return Mail(
        to=to,
        subject=subject,
        title=subject,
        paragraphs=[message[:ALERT_MESSAGE_CHARACTERS_MAX]],
        facts=[("Severity", severity), ("Since", when)],
        action=Action("Open the alert", url),
        colour=colour,
        dedupe_key=key,
    )


def alert_resolved(to: str, *, name: str, when: str, url: str, key: str) -> Mail:
    """An alert fires no more."""
    subject = f"[resolved] {_on_one_line(name)}"
    return Mail(
        to=to,
        subject=subject,
        title=subject,
        paragraphs=["The alert is over."],
        facts=[("At", when)],
        action=Action("Open the alert", url),
        dedupe_key=key,
    )


def api_key_expires(to: str, *, name: str, key_id: str, when: str, url: str, key: str) -> Mail:
    """A key that exporters send with comes to its end."""
    return Mail(
        to=to,
        subject=f"The API key {_on_one_line(name)} expires soon",
        title="An API key expires soon",
        paragraphs=["Rotate it before: exporters that still send with it then are refused."],
        facts=[("Key", _on_one_line(name)), ("Id", key_id), ("Expires", when)],
        action=Action("Open TelemetryFlow", url),
        colour=WARNING,
        dedupe_key=key,
    )


def quota_nearly_used(to: str, *, signal: str, used: int, most: int, url: str, key: str) -> Mail:
    """80 % of a month's quota are stored."""
    subject = f"80 % of the monthly quota of {signal} are used"
    return Mail(
        to=to,
        subject=subject,
        title=subject,
        paragraphs=["Send less, or ask for a bigger plan, before it is used up."],
        facts=_of_quota(used, most),
        action=Action("Open TelemetryFlow", url),
        dedupe_key=key,
    )


def quota_used_up(
    to: str, *, signal: str, used: int, most: int, until: str, url: str, key: str
) -> Mail:
    """All of a month's quota is stored, and the grace runs."""
    subject = f"The monthly quota of {signal} is used up"
    return Mail(
        to=to,
        subject=subject,
        title=subject,
        paragraphs=["More is taken for a while, and then refused until the month ends (UTC)."],
        facts=[*_of_quota(used, most), ("Taken until", until)],
        action=Action("Open TelemetryFlow", url),
        colour=WARNING,
        dedupe_key=key,
    )


def quota_refused(to: str, *, signal: str, used: int, most: int, url: str, key: str) -> Mail:
    """The grace after a month's quota is over."""
    subject = f"The monthly quota of {signal} is used up: more is refused"
    return Mail(
        to=to,
        subject=subject,
        title=subject,
        paragraphs=["Exporters are told so. It ends with the month (UTC), or with a bigger plan."],
        facts=_of_quota(used, most),
        action=Action("Open TelemetryFlow", url),
        colour=CRITICAL,
        dedupe_key=key,
    )


def _of_quota(used: int, most: int) -> list[tuple[str, str]]:
    return [("Stored this month", f"{used:,}"), ("Quota", f"{most:,}")]


def _on_one_line(name: str) -> str:
    """*name* for a subject: an alert with a line end in its name must be told of all the same."""
    printable = "".join(one if one.isprintable() else " " for one in name)
    return " ".join(printable.split())[:ALERT_NAME_CHARACTERS_MAX]
