"""The pages that links in mails lead to: a form each, which asks the API."""

import secrets
from dataclasses import dataclass
from typing import Final

from shared.http.call import Answer, Call
from shared.http.routes import Routes
from shared.messaging.commands import ANYBODY
from shared.ui.templates import render

routes = Routes("Pages", "What links in mails lead to, for people with a browser.")

HTML: Final = "text/html"


@dataclass(frozen=True, slots=True)
class Form:
    """A page with one form; *route* is asked below the API's prefix."""

    title: str
    text: str
    button: str
    route: str
    asks_email: bool = False
    asks_password: bool = False


def _page(call: Call, form: Form) -> Answer:
    nonce = secrets.token_urlsafe(16)
    prefix = call.services.settings.api_prefix.strip("/")
    text = render(
        "link.html",
        title=form.title,
        text=form.text,
        button=form.button,
        asks_email=form.asks_email,
        asks_password=form.asks_password,
        endpoint=f"/{prefix}{form.route}",
        nonce=nonce,
    )
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; "
        "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    )
    return Answer(text.encode(), {"Content-Security-Policy": policy})


@routes.get("/verify-email", permission=ANYBODY, is_prefixed=False, content_type=HTML)
async def show_verify_email(call: Call) -> Answer:
    """Show the page that confirms an address."""
    return _page(
        call,
        Form(
            title="Confirm your e-mail address",
            text="Press the button, and your address is confirmed.",
            button="Confirm",
            route="/auth/verify-email",
        ),
    )


@routes.get("/accept-invitation", permission=ANYBODY, is_prefixed=False, content_type=HTML)
async def show_accept_invitation(call: Call) -> Answer:
    """Show the page on which an invited person chooses a password."""
    return _page(
        call,
        Form(
            title="Welcome to TelemetryFlow",
            text="Choose a password, and you are in.",
            button="Join",
            route="/auth/accept-invitation",
            asks_password=True,
        ),
    )


@routes.get("/reset-password", permission=ANYBODY, is_prefixed=False, content_type=HTML)
async def show_reset_password(call: Call) -> Answer:
    """Show the page on which a person chooses another password."""
    return _page(
        call,
        Form(
            title="Choose another password",
            text="All your sessions end with it.",
            button="Change the password",
            route="/auth/reset-password",
            asks_password=True,
        ),
    )


@routes.get("/forgot-password", permission=ANYBODY, is_prefixed=False, content_type=HTML)
async def show_forgot_password(call: Call) -> Answer:
    """Show the page that asks for a mail to choose another password."""
    return _page(
        call,
        Form(
            title="Forgot your password?",
            text="A mail will tell you how to choose another one.",
            button="Send the mail",
            route="/auth/forgot-password",
            asks_email=True,
        ),
    )
