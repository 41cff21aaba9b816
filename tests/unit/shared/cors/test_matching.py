"""Which origins match which rules, and what browsers are told."""

from string import ascii_lowercase, digits

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from shared.cors.matching import ORIGINS_MAX, CorsRules, OriginRule
from shared.errors import Invalid

SUBDOMAINS = OriginRule.parse("https://*.example.com")
LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
HOST_CHARACTERS = set(ascii_lowercase + digits + "-_")
FOREIGN = [
    "https://example.com",
    "https://.example.com",
    "https://a..example.com",
    "https://-.example.com",
    "https://*.example.com",
    "https://evilexample.com",
    "https://evil-example.com",
    "https://example.com.evil.com",
    "https://app.example.com.evil.com",
    "https://app.example.com.",
    "https://app.example.com/",
    "https://app.example.com?",
    "https://app.example.com#",
    "https://app.example.com:443",
    "https://app.example.com:8443",
    "https://evil.com/.example.com",
    "https://evil.com#.example.com",
    "https://evil.com?.example.com",
    "https://evil.com\\.example.com",
    "https://evil.com:80.example.com",
    "https://user@app.example.com",
    "https://evil.com@app.example.com",
    "https://user:password@app.example.com",
    "https://app.example.com@evil.com",
    "https://evil.com%2f.example.com",
    "https://evil.com\n.example.com",
    "https://evil.com .example.com",
    "https://evil.com\x00.example.com",
    "https://app\u3002example.com",
    "https://\u0430pp.example.com",
    "http://app.example.com",
    "ftp://app.example.com",
    "https:app.example.com",
    "//app.example.com",
    "app.example.com",
    "HTTPS://app.example.com",
    "https://APP.example.com",
    "https://app.example.comx",
    "https://https://app.example.com",
    "null",
    "",
    "*",
    "https://" + "a." * 130 + "example.com",
]


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("https://example.com", "https://example.com"),
        ("HTTPS://Example.COM", "https://example.com"),
        ("https://example.com:443", "https://example.com"),
        ("http://example.com:80", "http://example.com"),
        ("https://example.com:80", "https://example.com:80"),
        ("http://localhost:03000", "http://localhost:3000"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("https://*.BÜCHER.example", "https://*.xn--bcher-kva.example"),
        ("https://*.example.com:443", "https://*.example.com"),
        ("http://*.localhost:3000", "http://*.localhost:3000"),
        ("http://127.0.0.1:3000", "http://127.0.0.1:3000"),
        ("http://[0:0:0:0:0:0:0:1]:3000", "http://[::1]:3000"),
        ("*", "*"),
    ],
)
def test_rules_are_brought_into_the_form_of_browsers(text: str, normal: str) -> None:
    assert OriginRule.parse(text).text == normal
    assert OriginRule.parse(normal).text == normal


@pytest.mark.parametrize(
    "text",
    [
        *("", "null", "example.com", "ftp://example.com", "file://", "https://", "//example.com"),
        *("https://example.com/", "https://example.com/path", "https://example.com?a"),
        *("https://example.com#a", "https://user@example.com", "https://user:p@example.com"),
        *("https://example.com:0", "https://example.com:65536", "https://example.com:*"),
        *("https://example.com:", "https://example.com:8o", " https://example.com"),
        *("https://example.com\n", "https://exam ple.com", "https://example.com."),
        *("https://*", "https://*.", "https://*.com", "https://*.*.example.com", "*.example.com"),
        *("https://*example.com", "https://app.*.com", "https://app*.example.com", "**"),
        *("https://*.127.0.0.1", "https://*.[::1]", "https://1.2.3", "https://256.1.1.1"),
        *("https://0x7f000001", "https://[::1", "https://[1::2::3]", "https://[::1%25eth0]"),
        *("https://-a.com", "https://a-.com", "https://a..com", "https://" + "a" * 64 + ".com"),
        *(
            "https://" + "a." * 140 + "com",
            "https://" + "a." * 10_000 + "com",
            "http\u017f://a.com",
        ),
        *(
            "https://\u00ad",
            "https://xn--\u00fc.com",
            "https://a\u2024\u2024com",
            "https://*://a.com",
        ),
    ],
)
def test_what_is_no_origin_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        OriginRule.parse(text)


@given(st.text() | st.text(alphabet="htps:/*.aA0-[]@ü\u017f1x").map("https://".__add__))
def test_every_text_is_a_rule_or_invalid(text: str) -> None:
    try:
        rule = OriginRule.parse(text)
    except Invalid:
        return

    assert OriginRule.parse(rule.text) == rule
    assert rule.text.isascii()


def test_an_exact_origin_matches_itself_alone() -> None:
    rule = OriginRule.parse("https://app.example.com")

    assert rule.matches("https://app.example.com")
    assert not any(rule.matches(origin) for origin in FOREIGN)


@given(st.lists(LABELS, min_size=1, max_size=5))
def test_subdomains_of_any_depth_match(labels: list[str]) -> None:
    assert SUBDOMAINS.matches(f"https://{'.'.join(labels)}.example.com")


@pytest.mark.parametrize("origin", FOREIGN)
def test_foreign_origins_do_not_match_subdomains(origin: str) -> None:
    assert not SUBDOMAINS.matches(origin)
    assert CorsRules(["https://*.example.com"]).answer(origin, "GET") is None


def test_scheme_and_port_of_subdomains_must_match() -> None:
    rule = OriginRule.parse("http://*.example.com:8080")

    assert rule.matches("http://app.example.com:8080")
    assert not rule.matches("https://app.example.com:8080")
    assert not rule.matches("http://app.example.com")
    assert not rule.matches("http://app.example.com:80801")


@given(st.text(max_size=30))
@example("app.example.com@")
@example("evil.com/")
def test_nothing_before_the_host_but_labels_matches(prefix: str) -> None:
    origin = f"https://{prefix}example.com"
    labels = prefix.removesuffix(".").split(".")
    is_subdomain = prefix.endswith(".") and all(
        label and set(label) <= HOST_CHARACTERS and label.strip("-") == label for label in labels
    )

    assert SUBDOMAINS.matches(origin) == is_subdomain


@given(st.text(min_size=1, max_size=30))
@example(".evil.com")
@example("@evil.com")
@example(":443")
def test_nothing_behind_the_host_matches(suffix: str) -> None:
    assume(not suffix.endswith(".example.com"))

    assert not SUBDOMAINS.matches(f"https://app.example.com{suffix}")


@given(st.text(max_size=10), st.text(max_size=10))
def test_userinfo_never_matches(user: str, host: str) -> None:
    assert not SUBDOMAINS.matches(f"https://{user}@{host}.example.com")


@given(LABELS, LABELS)
def test_a_name_that_merely_ends_alike_never_matches(label: str, other: str) -> None:
    assert not SUBDOMAINS.matches(f"https://{label}example.com")
    assert not SUBDOMAINS.matches(f"https://{label}.{other}example.com")
    assert not SUBDOMAINS.matches(f"https://example.com.{label}.{other}")


def test_a_request_is_answered_with_its_own_origin() -> None:
    rules = CorsRules(["https://other.example", "https://*.example.com"], credentials=True)

    assert rules.answer("https://app.example.com", "GET") == {
        "Vary": "Origin",
        "Access-Control-Allow-Origin": "https://app.example.com",
        "Access-Control-Allow-Credentials": "true",
    }


def test_a_preflight_is_answered_with_what_is_allowed() -> None:
    rules = CorsRules(["https://example.com"], max_age_seconds=600)

    assert rules.answer("https://example.com", "PATCH", "content-type,  authorization") == {
        "Vary": "Origin",
        "Access-Control-Allow-Origin": "https://example.com",
        "Access-Control-Allow-Methods": "GET, POST, PUT, DELETE, PATCH",
        "Access-Control-Allow-Headers": "Content-Type, Authorization",
        "Access-Control-Max-Age": "600",
    }


def test_any_origin_is_answered_with_a_star_and_never_with_credentials() -> None:
    answer = CorsRules(["https://example.com", "*"]).answer("https://anything.example", "GET", "")

    assert answer is not None
    assert answer["Vary"] == "Origin"
    assert answer["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in answer
    with pytest.raises(Invalid) as caught:
        CorsRules(["https://example.com", "*"], credentials=True)
    assert caught.value.field == "origins"


def test_a_request_without_an_origin_is_allowed_and_varies() -> None:
    assert CorsRules(["https://example.com"]).answer(None, "DELETE") == {"Vary": "Origin"}


@pytest.mark.parametrize(
    ("method", "requested"),
    [
        *(("OPTIONS", None), ("DELETE", None), ("get", None), ("", None), ("DELETE", "")),
        *(("GET", "X-Tenant-ID"), ("GET", "Content-Type, X-Tenant-ID"), ("GET", "*")),
    ],
)
def test_methods_and_headers_that_are_not_named_are_refused(
    method: str, requested: str | None
) -> None:
    rules = CorsRules(["https://example.com"], ["GET", "post"])

    assert rules.answer("https://example.com", method, requested) is None
    assert rules.answer("https://example.com", "HEAD") is not None
    assert rules.answer("https://example.com", "POST", "Content-Type") is not None


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"origins": []}, "origins"),
        ({"origins": ["https://a.com"] * (ORIGINS_MAX + 1)}, "origins"),
        ({"origins": ["https://a.com", "null"]}, "origins.1"),
        ({"methods": []}, "methods"),
        ({"methods": ["TRACE"]}, "methods"),
        ({"methods": ["*"]}, "methods"),
        ({"headers": ["X-Good", "*"]}, "headers.1"),
        ({"headers": ["X: y\r\nSet-Cookie"]}, "headers.0"),
        ({"headers": ["X-Ü"]}, "headers.0"),
        ({"headers": [""]}, "headers.0"),
        ({"headers": ["x"] * 101}, "headers"),
        ({"max_age_seconds": -1}, "maxAge"),
        ({"max_age_seconds": 86_401}, "maxAge"),
    ],
)
def test_malformed_rules_are_refused_by_field(options: dict[str, list[str]], field: str) -> None:
    good: dict[str, list[str]] = {"origins": ["https://example.com"]}
    with pytest.raises(Invalid) as caught:
        CorsRules(**(good | options))  # type: ignore[arg-type]

    assert caught.value.field == field


def test_rules_are_kept_once_and_in_the_form_of_browsers() -> None:
    rules = CorsRules(["https://B.com", "https://a.com", "https://b.com:443"], ["get", "GET"])

    assert rules.origins == ("https://b.com", "https://a.com")
    assert rules.methods == ("GET",)
    assert rules.headers == ("Content-Type", "Authorization")
