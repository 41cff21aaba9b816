"""One-time codes and recovery codes."""

import re
from datetime import UTC, datetime, timedelta

import pyotp
import pytest

from shared.security import totp

NOW = datetime(2026, 3, 1, 12, 0, 10, tzinfo=UTC)
STEP = int(NOW.timestamp()) // 30
SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"  # of RFC 6238


def code_of(step: int) -> str:
    return pyotp.TOTP(SECRET).generate_otp(step)


def test_the_codes_are_those_of_rfc_6238() -> None:
    at = datetime.fromtimestamp(1_111_111_109, UTC)

    step = totp.step_of(SECRET, "081804", now=at, window=0, last_step=None)

    assert step == 1_111_111_109 // 30


@pytest.mark.parametrize(
    ("offset", "is_good"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)]
)
def test_S17_a_code_may_be_one_step_off(offset: int, is_good: bool) -> None:
    step = totp.step_of(SECRET, code_of(STEP + offset), now=NOW, window=1, last_step=None)

    assert step == (STEP + offset if is_good else None)


def test_S17_a_code_is_good_once() -> None:
    code = code_of(STEP)
    step = totp.step_of(SECRET, code, now=NOW, window=1, last_step=STEP - 1)

    assert step == STEP
    for seconds in (0, 20, 45):
        later = NOW + timedelta(seconds=seconds)
        assert totp.step_of(SECRET, code, now=later, window=1, last_step=step) is None


def test_S17_a_code_before_the_last_one_is_refused() -> None:
    assert totp.step_of(SECRET, code_of(STEP - 1), now=NOW, window=1, last_step=STEP) is None


@pytest.mark.parametrize(
    "code", ["", "12345", "1234567", "abcdef", "١٢٣٤٥٦", "12\x003456", "-12345"]
)
def test_what_is_no_code_is_refused(code: str) -> None:
    assert totp.step_of(SECRET, code, now=NOW, window=5, last_step=None) is None


def test_a_code_may_be_written_with_a_space() -> None:
    code = code_of(STEP)

    assert totp.step_of(SECRET, f"{code[:3]} {code[3:]}", now=NOW, window=0, last_step=None) == STEP


def test_a_secret_has_160_bits() -> None:
    assert re.fullmatch(r"[A-Z2-7]{32}", totp.new_secret())
    assert totp.new_secret() != totp.new_secret()


def test_an_app_reads_the_secret_from_the_address() -> None:
    uri = totp.provisioning_uri(SECRET, account="jane@example.org", issuer="Telemetry Flow")

    read = pyotp.parse_uri(uri)
    assert isinstance(read, pyotp.TOTP)
    assert (read.secret, read.name, read.issuer) == (SECRET, "jane@example.org", "Telemetry Flow")
    assert read.interval == 30


def test_the_qr_code_is_an_image_in_a_data_url() -> None:
    uri = totp.provisioning_uri(SECRET, account="x" * 254, issuer="TelemetryFlow")

    assert totp.qr_data_url(uri).startswith("data:image/svg+xml;charset=utf-8,%3Csvg")


def test_recovery_codes_are_ten_and_differ() -> None:
    codes = totp.new_recovery_codes()

    assert len(set(codes)) == 10
    assert all(re.fullmatch(r"[0-9a-z]{4}(-[0-9a-z]{4}){2}", code) for code in codes)
    assert not re.search("[ilou]", "".join(codes))


@pytest.mark.parametrize(
    "spelling", ["0ab1-cd1e-0fgh", "0AB1CD1E0FGH", "oabi cdle ofgh", " 0ab1-cd1e-0fgh "]
)
def test_S17_recovery_codes_are_found_however_they_are_typed(spelling: str) -> None:
    salt = b"s" * 16

    assert totp.digest(spelling, salt=salt) == totp.digest("0ab1-cd1e-0fgh", salt=salt)


def test_digests_of_recovery_codes_are_those_of_one_person() -> None:
    code = totp.new_recovery_codes(1)[0]

    assert totp.digest(code, salt=b"a" * 16) != totp.digest(code, salt=b"b" * 16)
    assert totp.digest(code, salt=b"a" * 16) != totp.digest(code + "0", salt=b"a" * 16)
    assert len(totp.digest("\ud800" * 10_000, salt=b"a" * 16)) == 32
