"""Templates: what is escaped, what is refused, and a page that needs nothing else."""

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

import pytest
from jinja2 import UndefinedError

from shared.errors import Invalid
from shared.ui.templates import render

ERROR: Final[dict[str, Any]] = {
    "title": "Not found",
    "status": 404,
    "message": "There is nothing here.",
    "home_url": "https://app.example.com/",
    "at": datetime(2026, 1, 31, 23, 59, tzinfo=UTC),
    "reference": "4bf92f3577b34da6",
    "nonce": "r4nd0m",
}


def error_page(**values: Any) -> str:
    return render("error.html", **(ERROR | values))


@pytest.mark.parametrize("name", ERROR)
def test_a_value_that_is_missing_is_an_error_and_no_blank(name: str) -> None:
    values = {other: value for other, value in ERROR.items() if other != name}
    with pytest.raises(UndefinedError, match=name):
        render("error.html", **values)


@pytest.mark.parametrize("name", ["title", "message", "reference", "nonce", "status", "home_url"])
@pytest.mark.parametrize(
    "payload",
    [
        "<script>alert(1)</script>",
        '"><svg onload=alert(1)>',
        "</title><img src=x onerror=alert(1)>",
        "</style><img src=x onerror=alert(1)>",
    ],
)
def test_S60_what_people_typed_is_text_and_no_markup(name: str, payload: str) -> None:
    assert payload not in error_page(**{name: payload})


@pytest.mark.parametrize("payload", ["{{7*7}}", "${7*7}", "{0.__globals__}", "{% raw %}", "#{7*7}"])
def test_S58_a_value_is_never_a_template(payload: str) -> None:
    assert f"<p>{payload}</p>" in error_page(message=payload)


def test_S60_a_page_has_no_script_no_inline_style_and_loads_nothing() -> None:
    page = error_page()

    assert '<style nonce="r4nd0m">' in page
    assert not re.search(r"<script|\sstyle=|\son\w+=|\ssrc=|<link|@import|url\(", page)


def test_a_page_is_readable_on_phones_in_the_dark_and_aloud() -> None:
    page = error_page()

    assert '<html lang="en">' in page
    assert 'name="viewport" content="width=device-width, initial-scale=1"' in page
    assert "prefers-color-scheme: dark" in page
    assert "<main>" in page


@pytest.mark.parametrize(
    "at",
    [
        datetime(2026, 1, 31, 23, 59, tzinfo=UTC),
        datetime(2026, 2, 1, 6, 59, tzinfo=timezone(timedelta(hours=7))),
    ],
)
def test_times_are_shown_in_UTC(at: datetime) -> None:
    time = '<time datetime="2026-01-31T23:59:00Z">2026-01-31 23:59 UTC</time>'
    assert time in error_page(at=at)


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(Invalid, match="zone"):
        error_page(at=ERROR["at"].replace(tzinfo=None))


@pytest.mark.parametrize(
    "url", ["https://example.com/a?b=c", "http://localhost:3000", "/status", "status", "#top", ""]
)
def test_a_link_of_the_web_or_of_this_site_is_kept(url: str) -> None:
    assert f'<a href="{url}">' in error_page(home_url=url)


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        " javascript:alert(1)",
        "java\tscript:alert(1)",
        "\x01javascript:alert(1)",
        "data:text/html,x",
        "vbscript:x",
        "file:///etc/passwd",
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "https:evil.example",
        "https:///evil.example",
        "http://[",
        "/sta\x01tus",
        "/status ",
    ],
)
def test_S60_a_link_that_leads_elsewhere_leads_nowhere(url: str) -> None:
    assert '<a href="#">' in error_page(home_url=url)
