"""How mails leave: by SMTP, or into a folder when no mail server is set."""

import hashlib
import logging
import re
import ssl
import time
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import Final, Protocol

import aiosmtplib

from shared.email.addresses import is_address
from shared.email.mails import Mail
from shared.errors import Invalid, Unavailable
from shared.settings import Settings
from shared.ui.templates import render

SMTP_SECONDS_MAX: Final = 10.0
KEPT_FILES_MAX: Final = 200
RETRY_AFTER_SECONDS: Final = 30.0
# What some program on the way may take for the end of a line.
_LINE_ENDS: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")

logger = logging.getLogger(__name__)


class Mailer(Protocol):
    """Sends mails; Unavailable may go well later, Invalid never will."""

    async def send(self, mail: Mail) -> None:
        """Hand *mail* over; returns when it was taken."""


def open_mailer(settings: Settings) -> Mailer:
    """SMTP where a server is set, else the folder of a developer.

    Invalid names SMTP_FROM or APP_URL when no mail could ever be made with it.
    """
    _sender(settings)
    if not settings.app_url.startswith(("http://", "https://")):
        raise Invalid("APP_URL begins with http:// or https://")
    if settings.smtp_host:
        return SmtpMailer(settings)
    return FolderMailer(settings)


def composed(mail: Mail, settings: Settings) -> EmailMessage:
    """The message with its text and HTML, for one recipient.

    Invalid when a header would break out of its line, when *to* is not exactly one address, and
    when the link leads anywhere but below APP_URL.
    """
    for value in (mail.to, mail.subject):
        if _LINE_ENDS.search(value):
            raise Invalid("a header of the mail has a line end in it")
    _require_address(mail.to, "the recipient")
    if mail.action is not None and not _is_below(mail.action.url, settings.app_url):
        raise Invalid("the link of the mail does not lead to APP_URL")
    try:
        return _written(mail, settings)
    except UnicodeError as error:
        raise Invalid("the mail has a character that cannot be written") from error


def _written(mail: Mail, settings: Settings) -> EmailMessage:
    values = {
        "title": mail.title,
        "paragraphs": mail.paragraphs,
        "facts": mail.facts,
        "action": mail.action,
        "colour": mail.colour,
        "app_url": settings.app_url,
        "support_email": settings.support_email,
    }
    message = EmailMessage()
    # EmailMessage decodes what looks encoded, and would write a line end that hides in it.
    message["Subject"] = mail.subject.replace("=?", "= ?")
    sender = _sender(settings)
    message["From"] = sender
    message["To"] = Address(addr_spec=mail.to)
    message["Date"] = format_datetime(datetime.now(UTC))
    digest = hashlib.sha256(mail.dedupe_key.encode()).hexdigest()[:32]
    message["Message-ID"] = f"<{digest}@{sender.domain}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(render("mail.txt", **values))
    message.add_alternative(render("mail.html", **values), subtype="html")
    for one in mail.attachments:
        message.add_attachment(one.content, maintype="text", subtype="csv", filename=one.name)
    return message


def _sender(settings: Settings) -> Address:
    # By hand: the name before the brackets may have a comma in it, as many companies do.
    before, bracket, after = settings.smtp_from.rpartition("<")
    name, address = (before.strip(' "'), after.removesuffix(">")) if bracket else ("", after)
    if _LINE_ENDS.search(name) or "=?" in name:
        raise Invalid("SMTP_FROM has a line end in it, or is encoded: write it as it is read")
    _require_address(address, "SMTP_FROM")
    return Address(display_name=name, addr_spec=address)


def _require_address(text: str, what: str) -> None:
    if not is_address(text):
        raise Invalid(f"{what} is not one e-mail address")


def _is_below(url: str, app_url: str) -> bool:
    base = app_url.rstrip("/")
    return url == base or url.startswith((f"{base}/", f"{base}#", f"{base}?"))


class SmtpMailer:
    """A connection for each mail: there are few, and a kept one would be closed meanwhile."""

    def __init__(self, settings: Settings, tls: ssl.SSLContext | None = None) -> None:
        self._settings = settings
        self._tls = tls

    async def send(self, mail: Mail) -> None:
        """Hand it to the mail server."""
        settings = self._settings
        message = composed(mail, settings)
        try:
            await aiosmtplib.send(
                message,
                hostname=settings.smtp_host,
                port=settings.smtp_port,
                username=settings.smtp_user or None,
                password=settings.smtp_pass or None,
                use_tls=settings.smtp_secure == "tls",
                start_tls=settings.smtp_secure == "starttls",
                tls_context=self._tls,
                timeout=SMTP_SECONDS_MAX,
            )
        except aiosmtplib.SMTPAuthenticationError as error:
            raise Unavailable(
                "the mail server refuses SMTP_USER and SMTP_PASS",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            ) from error
        except (aiosmtplib.SMTPConnectResponseError, aiosmtplib.SMTPHeloError) as error:
            # It refuses us before it has seen the mail, so the mail is not at fault.
            raise Unavailable(
                f"the mail server refuses the connection ({error.code})",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            ) from error
        except aiosmtplib.SMTPRecipientsRefused as error:
            codes = [refused.code for refused in error.recipients]
            if all(code >= 500 for code in codes):
                raise Invalid(f"the mail server knows no such address ({codes[0]})") from error
            raise Unavailable("the mail server wants this later") from error
        except aiosmtplib.SMTPResponseException as error:
            if error.code >= 500:
                raise Invalid(f"the mail server refuses the mail ({error.code})") from error
            raise Unavailable(f"the mail server wants this later ({error.code})") from error
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            raise Unavailable(
                f"the mail server at {settings.smtp_host}:{settings.smtp_port} does not take "
                f"mails ({type(error).__name__})",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            ) from error


class FolderMailer:
    """Keeps the last mails as files, so that a developer can open the links in them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = settings.data_dir / "mails"

    async def send(self, mail: Mail) -> None:
        """Write the message into the folder; the log names the file, never the link."""
        message = composed(mail, self._settings)
        try:
            path = self._keep(bytes(_readable(message)))
        except OSError as error:
            raise Unavailable(
                f"the mail cannot be kept in {self._folder} ({type(error).__name__})",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            ) from error
        logger.warning("no SMTP_HOST is set: the mail %r to %s is %s", mail.subject, mail.to, path)

    def _keep(self, content: bytes) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._folder / f"{time.time_ns()}.eml"
        path.touch(mode=0o600)
        path.write_bytes(content)
        for old in sorted(self._folder.glob("*.eml"))[:-KEPT_FILES_MAX]:
            old.unlink(missing_ok=True)
        return path


def _readable(message: EmailMessage) -> EmailMessage:
    """The message as a person reads it in a file: its lines as they are, links in one piece."""
    for part in message.walk():
        is_text = part.get_content_maintype() == "text" and not part.is_attachment()
        if isinstance(part, EmailMessage) and is_text:
            part.set_content(part.get_content(), subtype=part.get_content_subtype(), cte="8bit")
    return message
