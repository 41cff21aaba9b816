"""How mails leave: by SMTP, or into a folder when no mail server is set."""

import hashlib
import logging
import re
import ssl
import time
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import parseaddr
from pathlib import Path
from typing import Final, Protocol

import aiosmtplib

from shared.email.mails import Mail
from shared.errors import Invalid, Unavailable
from shared.settings import Settings
from shared.ui.templates import render

SMTP_SECONDS_MAX: Final = 10.0
KEPT_FILES_MAX: Final = 200
RETRY_AFTER_SECONDS: Final = 30.0
_LINE_ENDS: Final = re.compile(r"[\r\n\x00-\x1f\x7f]")

logger = logging.getLogger(__name__)


class Mailer(Protocol):
    """Sends mails; Unavailable may go well later, Invalid never will."""

    async def send(self, mail: Mail) -> None:
        """Hand *mail* over; returns when it was taken."""


def open_mailer(settings: Settings) -> Mailer:
    """SMTP where a server is set, else the folder of a developer."""
    if settings.smtp_host:
        return SmtpMailer(settings)
    return FolderMailer(settings)


def composed(mail: Mail, settings: Settings) -> EmailMessage:
    """The message with its text and HTML; Invalid when a header would break out of its line."""
    for value in (mail.to, mail.subject):
        if _LINE_ENDS.search(value):
            raise Invalid("a header of the mail has a line end in it")
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
    message["Subject"] = mail.subject
    name, address = parseaddr(settings.smtp_from)
    message["From"] = Address(display_name=name, addr_spec=address)
    message["To"] = mail.to
    domain = address.rpartition("@")[2]
    digest = hashlib.sha256(mail.dedupe_key.encode()).hexdigest()[:32]
    message["Message-ID"] = f"<{digest}@{domain}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(render("mail.txt", **values))
    message.add_alternative(render("mail.html", **values), subtype="html")
    return message


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
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._folder / f"{time.time_ns()}.eml"
        path.touch(mode=0o600)
        path.write_bytes(bytes(message))
        logger.warning("no SMTP_HOST is set: the mail %r to %s is %s", mail.subject, mail.to, path)
        for old in self._kept()[:-KEPT_FILES_MAX]:
            old.unlink(missing_ok=True)

    def _kept(self) -> list[Path]:
        return sorted(self._folder.glob("*.eml"))
