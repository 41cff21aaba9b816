"""Credentials in headers: every accepted form, and no secret in any refusal."""

import base64
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import Unauthenticated
from shared.security.credentials import CREDENTIAL_HEADERS, Credentials, carries_key, credentials_of

HEX = "0123456789abcdef"
ID = f"tfk_{HEX * 2}"
SECRET = f"tfs_{HEX * 4}"
OTHER_ID = f"tfk_{HEX[::-1] * 2}"
PAIR = f"{ID}:{SECRET}"


def basic(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


def of(headers: Mapping[str, str]) -> Credentials:
    return credentials_of(headers.get)


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {PAIR}"},
        {"authorization": f"bearer  {PAIR} "},
        {"authorization": f"Bearer {ID}.{SECRET}"},
        {"authorization": basic(PAIR)},
        {"x-api-key": PAIR},
        {"x-api-key": f"{ID}.{SECRET}"},
        {"x-api-key-id": ID, "x-api-key-secret": SECRET},
        {"x-telemetryflow-key-id": ID, "x-telemetryflow-key-secret": SECRET},
        {"x-api-key": PAIR.replace("_", "-")},
        {"x-api-key": f"tfk_{HEX.upper() * 2}:tfs_{HEX.upper() * 4}"},
        {"authorization": f"Bearer {PAIR}", "x-api-key": PAIR},
    ],
)
def test_X28_every_documented_form_names_the_same_key(headers: dict[str, str]) -> None:
    assert of(headers) == Credentials(ID, SECRET)


def test_no_headers_are_no_key() -> None:
    assert of({}) == Credentials(None, "")


def test_tenant_and_workspace_are_carried_with_and_without_a_key() -> None:
    scope = {"x-tenant-id": "acme", "x-workspace-id": "shop"}
    assert of(scope) == Credentials(None, "", "acme", "shop")
    assert of({"x-api-key": PAIR} | scope) == Credentials(ID, SECRET, "acme", "shop")
    assert of({"x-tenant-id": ""}).tenant_id is None


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer "},
        {"authorization": f"Token {PAIR}"},
        {"authorization": PAIR},
        {"authorization": f"Bearer {ID}"},
        {"authorization": f"Bearer {SECRET}:{ID}"},
        {"authorization": f"Bearer {PAIR}0"},
        {"authorization": f"Bearer {PAIR[:-1]}"},
        {"authorization": f"Bearer {PAIR[:-1]}g"},
        {"authorization": f"Bearer {PAIR[:-1]}\u0660"},
        {"authorization": "Basic ?"},
        {"authorization": "Basic /////w=="},
        {"authorization": f"Basic {PAIR}"},
        {"x-api-key": ""},
        {"x-api-key-id": ID},
        {"x-api-key-secret": SECRET},
        {"x-api-key-id": ID, "x-telemetryflow-key-secret": SECRET},
        {"authorization": f"Bearer {PAIR}, Bearer {PAIR}"},
        {"x-api-key": f"{PAIR},{PAIR}"},
        {"authorization": f"Bearer {PAIR}", "x-api-key": f"{OTHER_ID}:{SECRET}"},
        {"x-api-key-id": OTHER_ID, "x-api-key-secret": SECRET, "x-api-key": PAIR},
        {"x-api-key": PAIR, "x-tenant-id": "a, b"},
        {"x-api-key": PAIR, "x-tenant-id": "a b"},
        {"x-api-key": PAIR, "x-tenant-id": "x" * 129},
        {"x-api-key": PAIR, "x-workspace-id": "../x"},
    ],
)
def test_malformed_repeated_and_contradicting_credentials_are_refused_without_the_secret(
    headers: dict[str, str],
) -> None:
    with pytest.raises(Unauthenticated) as caught:
        of(headers)
    assert HEX not in str(caught.value)


@given(st.dictionaries(st.sampled_from(CREDENTIAL_HEADERS), st.text(max_size=120)))
def test_any_text_is_credentials_or_a_refusal(headers: dict[str, str]) -> None:
    try:
        credentials = of(headers)
    except Unauthenticated:
        return
    assert credentials.key_id is None or credentials.key_id.startswith("tfk_")


def test_the_secret_does_not_show() -> None:
    assert HEX * 4 not in repr(of({"x-api-key": PAIR}))
    assert ID in repr(of({"x-api-key": PAIR}))


@pytest.mark.parametrize(
    ("headers", "is_key"),
    [
        ({"authorization": f"Bearer {PAIR}"}, True),
        ({"authorization": f" bearer  {PAIR.replace('_', '-').upper()}"}, True),
        ({"authorization": "Basic x"}, True),
        ({"x-api-key": ""}, True),
        ({"x-telemetryflow-key-secret": SECRET}, True),
        ({"authorization": "Bearer eyJhbGciOiJIUzI1NiJ9.e30.x", "x-tenant-id": "acme"}, False),
        ({"authorization": "Bearer"}, False),
        ({}, False),
    ],
)
def test_an_API_key_is_told_from_the_token_of_a_person(
    headers: Mapping[str, str], is_key: bool
) -> None:
    assert carries_key(headers.get) is is_key
