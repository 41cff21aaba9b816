"""Signed tokens: a table of forgeries, kinds, keys and the secret of the settings."""

import base64
import hashlib
import hmac
import json
import traceback
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from shared.errors import Invalid, Unauthenticated, Unavailable
from shared.security.signing_keys import SigningKey, new_signing_key, signing_key_from_secret
from shared.security.tokens import REFUSAL, TOKEN_CHARACTERS_MAX, Keyring, TokenKind

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
SECRET = "fB7m0qv2Zr9Wc4Xk8Tn1Hs6Jd3Lp5Gy0Ua"
HMAC_KEY = signing_key_from_secret(SECRET, NOW - timedelta(days=9))
CURVE_KEY = SigningKey(
    key_id="ed-current",
    algorithm="Ed25519",
    secret=bytes(range(32)),
    not_before=NOW - timedelta(days=1),
)
OLD_KEY = replace(
    CURVE_KEY,
    key_id="ed-old",
    secret=bytes(range(100, 132)),
    not_before=NOW - timedelta(days=30),
    retires_at=NOW - timedelta(days=1),
)
STRANGER = replace(CURVE_KEY, key_id="ed-stranger", secret=bytes(range(200, 232)))
KEYRING = Keyring([HMAC_KEY, CURVE_KEY, OLD_KEY])
HEADER = {"alg": "Ed25519", "kid": "ed-current", "typ": "at+jwt"}
CLAIMS = {
    "iss": "telemetryflow",
    "aud": "telemetryflow:access",
    "sub": "u1",
    "kind": "access",
    "jti": "j1",
    "iat": SECONDS,
    "exp": SECONDS + 900,
}


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def public_of(key: SigningKey) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(key.secret).public_key().public_bytes_raw()


def ed25519(text: bytes, key: SigningKey = CURVE_KEY) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(key.secret).sign(text)


def hs256(secret: bytes) -> Callable[[bytes], bytes]:
    return lambda text: hmac.new(secret, text, hashlib.sha256).digest()


def hs512(text: bytes) -> bytes:
    return hmac.new(HMAC_KEY.secret, text, hashlib.sha512).digest()


def no_signature(_text: bytes) -> bytes:
    return b""


def forged(
    header: dict[str, Any] | None = None,
    claims: dict[str, Any] | None = None,
    *,
    without: tuple[str, ...] = (),
    sign: Callable[[bytes], bytes] = ed25519,
) -> str:
    """A token like the real ones, but for what is given; signed with the real key by default."""
    parts = (HEADER | (header or {}), CLAIMS | (claims or {}))
    texts = (
        json.dumps({name: value for name, value in part.items() if name not in without})
        for part in parts
    )
    signed = ".".join(b64(text.encode()) for text in texts)
    return f"{signed}.{b64(sign(signed.encode()))}"


def signed_over(header: str, payload: str) -> str:
    signed = f"{b64(header.encode())}.{b64(payload.encode())}"
    return f"{signed}.{b64(ed25519(signed.encode()))}"


def respelled(token: str) -> str:
    """*token* with other unused bits at its end: the same bytes, another text."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return token[:-1] + letters[letters.index(token[-1]) + 1]


GOOD = forged()
HEAD, BODY, SIGNATURE = GOOD.split(".")
STRANGER_JWK = {"kty": "OKP", "crv": "Ed25519", "x": b64(public_of(STRANGER))}
HMAC_HEADER = {"alg": "HS256", "kid": HMAC_KEY.key_id}

FORGERIES = {
    "no signature, alg none": forged({"alg": "none"}, sign=no_signature),
    "alg none with a signature": forged({"alg": "none"}),
    "alg NONE": forged({"alg": "NONE"}, sign=no_signature),
    "alg null": forged({"alg": None}),
    "alg a list": forged({"alg": ["Ed25519"]}),
    "no alg": forged(without=("alg",)),
    "the public key as HMAC secret": forged({"alg": "HS256"}, sign=hs256(public_of(CURVE_KEY))),
    "the JWK as HMAC secret": forged(
        {"alg": "HS256"},
        sign=hs256(json.dumps(KEYRING.jwks(NOW)["keys"][0]).encode()),
    ),
    "an empty HMAC secret": forged(HMAC_HEADER, sign=hs256(b"")),
    "another HMAC": forged(HMAC_HEADER | {"alg": "HS512"}, sign=hs512),
    "the HMAC key for the curve's algorithm": forged({"kid": HMAC_KEY.key_id}),
    "the older name of the algorithm": forged({"alg": "EdDSA"}),
    "RS256 with the key's id": forged({"alg": "RS256"}),
    "a stranger's key in jwk": forged(
        {"jwk": STRANGER_JWK}, sign=lambda text: ed25519(text, STRANGER)
    ),
    "jwk beside a good signature": forged({"jwk": STRANGER_JWK}),
    "jku": forged({"jku": "https://attacker.example/jwks.json"}),
    "x5u": forged({"x5u": "https://attacker.example/chain.pem"}),
    "x5c": forged({"x5c": ["MIIB"]}),
    "crit that is unknown": forged({"crit": ["exp"], "exp": 1}),
    "crit that is empty": forged({"crit": []}),
    "detached payload": forged({"b64": False, "crit": ["b64"]}),
    "compressed": forged({"zip": "DEF"}),
    "a stranger's key under the good id": forged(sign=lambda text: ed25519(text, STRANGER)),
    "an unknown key": forged({"kid": "ed-stranger"}, sign=lambda text: ed25519(text, STRANGER)),
    "a retired key": forged({"kid": "ed-old"}, sign=lambda text: ed25519(text, OLD_KEY)),
    "no kid": forged(without=("kid",)),
    "kid a path": forged({"kid": "../../dev/null"}),
    "kid of SQL": forged({"kid": "x' UNION SELECT 'key"}),
    "kid too long": forged({"kid": "k" * 65}),
    "kid a number": forged({"kid": 1}),
    "kid an object": forged({"kid": {}}),
    "no typ": forged(without=("typ",)),
    "typ JWT": forged({"typ": "JWT"}),
    "expired": forged(claims={"iat": SECONDS - 1_000, "exp": SECONDS - 6}),
    "from the future": forged(claims={"iat": SECONDS + 6}),
    "no exp": forged(without=("exp",)),
    "exp text": forged(claims={"exp": str(SECONDS + 900)}),
    "exp true": forged(claims={"exp": True}),
    "exp NaN": forged(claims={"exp": float("nan")}),
    "exp infinite": forged(claims={"exp": float("inf")}),
    "exp beyond the calendar": forged(claims={"exp": 10**18}),
    "no iat": forged(without=("iat",)),
    "iat a fraction": forged(claims={"iat": SECONDS - 0.5}),
    "another issuer": forged(claims={"iss": "https://attacker.example"}),
    "no issuer": forged(without=("iss",)),
    "another audience": forged(claims={"aud": "other:access"}),
    "a list of audiences": forged(claims={"aud": ["telemetryflow:access", "other"]}),
    "no audience": forged(without=("aud",)),
    "no subject": forged(without=("sub",)),
    "an empty subject": forged(claims={"sub": ""}),
    "a subject that is no text": forged(claims={"sub": {"id": "u1"}}),
    "no jti": forged(without=("jti",)),
    "no kind": forged(without=("kind",)),
    "the kind of another token": forged(claims={"kind": "mfa"}),
    "a changed payload": f"{HEAD}.{forged(claims={'sub': 'admin'}).split('.')[1]}.{SIGNATURE}",
    "a flipped signature": f"{HEAD}.{BODY}.{'B' if SIGNATURE[0] == 'A' else 'A'}{SIGNATURE[1:]}",
    "a signature of zeros": f"{HEAD}.{BODY}.{b64(bytes(64))}",
    "a short signature": f"{HEAD}.{BODY}.{SIGNATURE[:-4]}",
    "no signature": f"{HEAD}.{BODY}.",
    "two parts": f"{HEAD}.{BODY}",
    "four parts": f"{GOOD}.{SIGNATURE}",
    "five parts, as if encrypted": f"{HEAD}.{BODY}.{SIGNATURE}.{BODY}.{SIGNATURE}",
    "the same bytes spelled otherwise": respelled(GOOD),
    "padded": f"{GOOD}==",
    "a space inside": f"{HEAD}.{BODY}. {SIGNATURE}",
    "a line behind it": f"{GOOD}\n",
    "in JSON": json.dumps({"protected": HEAD, "payload": BODY, "signature": SIGNATURE}),
    "empty": "",
    "dots": "..",
    "no token at all": "tfr_abcdefgh",
    "letters of other alphabets": "ééé.ééé.ééé",
    "half a surrogate pair": "\ud800.a.a",
    "a header that is no JSON": f"{b64(b'{')}.{BODY}.{SIGNATURE}",
    "a header that is a list": f"{b64(b'[1]')}.{BODY}.{SIGNATURE}",
    "a header of brackets": f"{b64(b'[' * 300)}.{BODY}.{SIGNATURE}",
    "a header of many brackets": f"{b64(b'[' * 5_000)}.{BODY}.{SIGNATURE}",
    "a payload that is a list": signed_over(json.dumps(HEADER), "[]"),
    "a payload that is no JSON": signed_over(json.dumps(HEADER), "{"),
    "too long": forged(claims={"filler": "x" * TOKEN_CHARACTERS_MAX}),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_S10_a_forged_token_is_refused_with_the_one_text(name: str) -> None:
    with pytest.raises(Unauthenticated) as refusal:
        KEYRING.read(FORGERIES[name], TokenKind.ACCESS, NOW)

    assert str(refusal.value) == REFUSAL
    assert refusal.value.__cause__ is None


def test_S10_the_table_of_forgeries_differs_from_a_good_token_in_one_thing() -> None:
    assert KEYRING.read(GOOD, TokenKind.ACCESS, NOW).subject == "u1"
    hmac_token = forged(HMAC_HEADER, sign=hs256(HMAC_KEY.secret))
    assert KEYRING.read(hmac_token, TokenKind.ACCESS, NOW).subject == "u1"


@pytest.mark.parametrize("asked", TokenKind)
@pytest.mark.parametrize("issued", TokenKind)
def test_S11_a_token_is_good_for_its_own_kind_only(issued: TokenKind, asked: TokenKind) -> None:
    token = KEYRING.issue(issued, "u1", {}, 900, NOW)

    if issued == asked:
        assert KEYRING.read(token, asked, NOW).kind == issued
    else:
        with pytest.raises(Unauthenticated, match=REFUSAL):
            KEYRING.read(token, asked, NOW)


@pytest.mark.parametrize("changed", ["typ", "aud", "kind"])
def test_S11_each_sign_of_the_kind_is_enough_to_refuse(changed: str) -> None:
    header = {"typ": "mfa+jwt"} if changed == "typ" else {}
    claims = {"aud": {"aud": "telemetryflow:mfa"}, "kind": {"kind": "mfa"}}.get(changed, {})

    with pytest.raises(Unauthenticated):
        KEYRING.read(forged(header, claims), TokenKind.ACCESS, NOW)


def test_a_token_says_what_was_put_into_it() -> None:
    token = KEYRING.issue(TokenKind.ACCESS, "u1", {"sid": "s1", "roles": ["a"]}, 900, NOW)

    claims = KEYRING.read(token, TokenKind.ACCESS, NOW)

    assert (claims.subject, claims.others) == ("u1", {"sid": "s1", "roles": ["a"]})
    assert (claims.issued_at, claims.expires_at) == (NOW, NOW + timedelta(seconds=900))
    other = KEYRING.read(KEYRING.issue(TokenKind.ACCESS, "u1", {}, 900, NOW), TokenKind.ACCESS, NOW)
    assert claims.token_id != other.token_id


@pytest.mark.parametrize(
    ("seconds", "is_good"), [(-6, False), (-5, True), (904, True), (905, False)]
)
def test_A28_a_token_is_good_for_its_time_and_five_seconds(seconds: int, is_good: bool) -> None:
    now = NOW + timedelta(seconds=seconds)
    if is_good:
        assert KEYRING.read(GOOD, TokenKind.ACCESS, now)
    else:
        with pytest.raises(Unauthenticated):
            KEYRING.read(GOOD, TokenKind.ACCESS, now)


def test_claims_of_the_token_itself_are_not_given_from_outside() -> None:
    with pytest.raises(Invalid, match="exp, sub"):
        KEYRING.issue(TokenKind.ACCESS, "u1", {"sub": "admin", "exp": 1}, 900, NOW)


def test_a_token_that_would_be_too_long_is_not_issued() -> None:
    with pytest.raises(Invalid, match="8192"):
        KEYRING.issue(TokenKind.ACCESS, "u1", {"x": "y" * TOKEN_CHARACTERS_MAX}, 900, NOW)


def test_a_token_of_another_installation_is_refused() -> None:
    token = Keyring([CURVE_KEY], issuer="other").issue(TokenKind.ACCESS, "u1", {}, 900, NOW)

    with pytest.raises(Unauthenticated):
        KEYRING.read(token, TokenKind.ACCESS, NOW)


def test_G11_keys_rotate_without_a_refused_token() -> None:
    life = timedelta(minutes=15)
    previous = new_signing_key(NOW - timedelta(days=30))
    current = new_signing_key(NOW)
    before = Keyring([previous, current])
    old_token = before.issue(TokenKind.ACCESS, "u1", {}, 900, NOW - timedelta(seconds=1))
    after = Keyring([replace(previous, retires_at=NOW + life), current])
    new_token = after.issue(TokenKind.ACCESS, "u1", {}, 900, NOW)

    for keyring in (before, after):
        for token in (old_token, new_token):
            assert keyring.read(token, TokenKind.ACCESS, NOW + life / 2).subject == "u1"
    assert Keyring([current]).read(new_token, TokenKind.ACCESS, NOW)
    with pytest.raises(Unauthenticated):
        Keyring([current]).read(old_token, TokenKind.ACCESS, NOW)
    with pytest.raises(Unauthenticated):
        after.read(old_token, TokenKind.ACCESS, NOW + life)


def test_G11_the_set_of_public_keys_has_previous_current_and_next() -> None:
    following = replace(new_signing_key(NOW + timedelta(days=1)), key_id="ed-next")
    previous = replace(OLD_KEY, key_id="ed-previous", retires_at=NOW + timedelta(minutes=15))
    keyring = Keyring([HMAC_KEY, OLD_KEY, previous, CURVE_KEY, following])

    keys = keyring.jwks(NOW)["keys"]

    assert [key["kid"] for key in keys] == ["ed-previous", "ed-current", "ed-next"]
    for key in keys:
        assert key.keys() == {"kty", "crv", "x", "kid", "alg", "use"}


def test_others_verify_a_token_with_the_public_key() -> None:
    head, body, signature = KEYRING.issue(TokenKind.ACCESS, "u1", {}, 900, NOW).split(".")
    published = {key["kid"]: key["x"] for key in KEYRING.jwks(NOW)["keys"]}["ed-current"]

    public_key = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(published + "="))

    public_key.verify(base64.urlsafe_b64decode(signature + "=="), f"{head}.{body}".encode())


def test_without_a_key_in_force_nothing_is_issued() -> None:
    keyring = Keyring([OLD_KEY, new_signing_key(NOW + timedelta(days=1))])

    with pytest.raises(Unavailable):
        keyring.issue(TokenKind.ACCESS, "u1", {}, 900, NOW)


def test_two_keys_with_one_id_are_refused() -> None:
    with pytest.raises(Invalid):
        Keyring([CURVE_KEY, replace(STRANGER, key_id="ed-current")])


@pytest.mark.parametrize("key", [CURVE_KEY, OLD_KEY, HMAC_KEY], ids=lambda key: key.key_id)
def test_a_key_is_the_same_after_storage(key: SigningKey) -> None:
    assert SigningKey.from_bytes(key.to_bytes()) == key


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"{}",
        b"[]",
        CURVE_KEY.to_bytes()[:-9],
        CURVE_KEY.to_bytes().replace(b"Ed25519", b"none"),
        replace(HMAC_KEY, key_id="x").to_bytes().replace(b"HS256", b"Ed25519"),
        CURVE_KEY.to_bytes().replace(b"ed-current", b"a b"),
    ],
)
def test_a_damaged_key_is_refused(stored: bytes) -> None:
    with pytest.raises(Invalid):
        SigningKey.from_bytes(stored)


def test_G12_no_key_shows_its_secret() -> None:
    damaged = CURVE_KEY.to_bytes()[:-9]
    with pytest.raises(Invalid) as refusal:
        SigningKey.from_bytes(damaged)
    trace = "".join(traceback.format_exception(refusal.value))

    for text in (repr(HMAC_KEY), str([CURVE_KEY]), repr(KEYRING), trace):
        assert SECRET not in text
        assert repr(CURVE_KEY.secret) not in text
        assert base64.b64encode(CURVE_KEY.secret).decode() not in text


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "x7!Qp",
        SECRET[:31],
        "your-secret-key-change-in-production",
        "YOUR_SUPER_SECRET_JWT_KEY_AT_LEAST_32_CHARS",
        "changeme-changeme-changeme-changeme",
        "please Change Me 8f3k2l9d0s8a7f6g5h4j",
        "my_jwt_secret_0f9d8s7a6f5g4h3j2k1l",
        "a" * 40,
        "01" * 20,
        "kQ8zR1vT" * 4,
        "0123456789abcdef0123456789abcdef",
        "telemetryflow-jwt-signing-0f9d8s7a6f",
    ],
)
def test_S12_a_secret_that_others_know_is_refused(secret: str) -> None:
    with pytest.raises(Invalid, match="JWT_SECRET") as refusal:
        signing_key_from_secret(secret, NOW)

    assert refusal.value.field == "JWT_SECRET"
    assert not secret or secret not in str(refusal.value)


@pytest.mark.parametrize(
    "secret",
    [SECRET, "9f86d081884c7d659a2feaa0c55ad015", "qT5b+Zk0/uGmVYxv8LwQ2cRr7HnJdEaS1oPfXiBtMhU="],
)
def test_S12_a_random_secret_signs(secret: str) -> None:
    keyring = Keyring([signing_key_from_secret(secret, NOW)])

    token = keyring.issue(TokenKind.ACCESS, "u1", {}, 900, NOW)

    assert keyring.read(token, TokenKind.ACCESS, NOW).subject == "u1"
    assert keyring.jwks(NOW) == {"keys": []}


def test_another_secret_is_another_key() -> None:
    assert signing_key_from_secret(SECRET[::-1], NOW).key_id != HMAC_KEY.key_id
    assert signing_key_from_secret(SECRET, NOW).key_id == HMAC_KEY.key_id
