"""Encryption of secrets at rest."""

import base64
import re
from pathlib import Path

import pytest

from shared.errors import Invalid, Unavailable
from shared.security.secret_box import SecretBox

OLD = bytes(range(32))
NEW = bytes(range(100, 132))
BOX = SecretBox({"k1": OLD, "k2": NEW}, "k2")
CONTEXT = "tenant-a|mfa|secret|row-1"
PLAIN = b"JBSWY3DPEHPK3PXP"


def b64(key: bytes) -> str:
    return base64.b64encode(key).decode()


@pytest.mark.parametrize("plaintext", [PLAIN, b"", bytes(100_000), b":::", b"v1:k1:"])
def test_a_secret_comes_back(plaintext: bytes) -> None:
    assert BOX.decrypt(BOX.encrypt(plaintext, context=CONTEXT), context=CONTEXT) == plaintext


def test_G10_a_ciphertext_tells_its_version_and_key_and_nothing_else() -> None:
    ciphertext = BOX.encrypt(PLAIN, context=CONTEXT)

    assert ciphertext.startswith(b"v1:k2:")
    assert len(ciphertext) == len(b"v1:k2:") + 12 + len(PLAIN) + 16
    assert PLAIN not in ciphertext


@pytest.mark.parametrize(
    "elsewhere",
    [
        "tenant-b|mfa|secret|row-1",
        "tenant-a|users|secret|row-1",
        "tenant-a|mfa|other|row-1",
        "tenant-a|mfa|secret|row-2",
        "",
    ],
)
def test_G10_a_ciphertext_is_worth_nothing_elsewhere(elsewhere: str) -> None:
    ciphertext = BOX.encrypt(PLAIN, context=CONTEXT)

    with pytest.raises(Invalid, match="changed or belongs elsewhere"):
        BOX.decrypt(ciphertext, context=elsewhere)


def test_G10_every_flipped_bit_is_noticed() -> None:
    ciphertext = BOX.encrypt(PLAIN, context=CONTEXT)

    for bit in range(8 * len(ciphertext)):
        changed = bytearray(ciphertext)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises((Invalid, Unavailable)):
            BOX.decrypt(bytes(changed), context=CONTEXT)


def test_G10_the_name_of_the_key_cannot_be_exchanged() -> None:
    box = SecretBox({"k1": OLD, "k2": OLD}, "k1")
    ciphertext = box.encrypt(PLAIN, context=CONTEXT)

    with pytest.raises(Invalid):
        box.decrypt(ciphertext.replace(b"v1:k1:", b"v1:k2:"), context=CONTEXT)


@pytest.mark.parametrize("cut", [0, 3, 6, 17, 33, -1])
def test_a_part_of_a_ciphertext_is_refused(cut: int) -> None:
    ciphertext = BOX.encrypt(PLAIN, context=CONTEXT)

    with pytest.raises(Invalid):
        BOX.decrypt(ciphertext[:cut], context=CONTEXT)


def test_G10_nonces_do_not_repeat() -> None:
    head = len(b"v1:k2:")
    count = 200_000

    nonces = {BOX.encrypt(b"", context="")[head : head + 12] for _ in range(count)}

    assert len(nonces) == count


def test_G11_keys_rotate_while_old_values_stay_readable() -> None:
    before = SecretBox({"k1": OLD}, "k1")
    ciphertext = before.encrypt(PLAIN, context=CONTEXT)

    assert not BOX.is_current(ciphertext)
    rotated = BOX.encrypt(BOX.decrypt(ciphertext, context=CONTEXT), context=CONTEXT)

    assert BOX.is_current(rotated)
    assert SecretBox({"k2": NEW}, "k2").decrypt(rotated, context=CONTEXT) == PLAIN


def test_G11_a_removed_key_is_named() -> None:
    ciphertext = SecretBox({"k1": OLD}, "k1").encrypt(PLAIN, context=CONTEXT)

    with pytest.raises(Unavailable, match="encryption key k1 is missing"):
        SecretBox({"k2": NEW}, "k2").decrypt(ciphertext, context=CONTEXT)


def test_the_first_key_of_the_setting_is_the_current_one() -> None:
    box = SecretBox.from_text(f"k2:{b64(NEW)}, k1:{b64(OLD)}\n")

    assert box.is_current(BOX.encrypt(PLAIN, context=CONTEXT))
    old = SecretBox({"k1": OLD}, "k1").encrypt(PLAIN, context=CONTEXT)
    assert box.decrypt(old, context=CONTEXT) == PLAIN


@pytest.mark.parametrize(
    "text",
    [
        "",
        "k1",
        b64(OLD),
        f"k1:{b64(OLD[:31])}",
        f"k1:{b64(OLD + b'x')}",
        f"k1:{b64(OLD)[:-4]}!!!!",
        f"k1:{b64(OLD)},",
        f"k1:{b64(OLD)},k1:{b64(NEW)}",
        f"a key:{b64(OLD)}",
        f"{'k' * 33}:{b64(OLD)}",
        f":{b64(OLD)}",
    ],
)
def test_G12_a_malformed_setting_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(Invalid, match="ENCRYPTION_KEYS") as refusal:
        SecretBox.from_text(text)

    assert refusal.value.field == "ENCRYPTION_KEYS"
    assert b64(OLD)[:8] not in str(refusal.value)


@pytest.mark.parametrize(
    ("keys", "current"), [({"k1": OLD}, "k2"), ({"k1": b"short"}, "k1"), ({"k:1": OLD}, "k:1")]
)
def test_a_box_without_good_keys_is_not_made(keys: dict[str, bytes], current: str) -> None:
    with pytest.raises(Invalid):
        SecretBox(keys, current)


def test_a_key_file_is_made_for_its_owner_only_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "data" / "keys"
    ciphertext = SecretBox.from_file(path).encrypt(PLAIN, context=CONTEXT)

    assert path.stat().st_mode & 0o777 == 0o600
    assert re.fullmatch(r"k[0-9a-f]{8}:[A-Za-z0-9+/]{43}=\n", path.read_text())
    assert [entry.name for entry in path.parent.iterdir()] == ["keys"]
    assert SecretBox.from_file(path).decrypt(ciphertext, context=CONTEXT) == PLAIN


def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    SecretBox.from_file(path)
    path.chmod(0o640)

    with pytest.raises(Invalid, match="chmod 600"):
        SecretBox.from_file(path)


def test_G12_a_box_does_not_show_its_keys() -> None:
    box = SecretBox({"k1": b"K" * 32}, "k1")

    assert "KKKK" not in repr(box) + str(vars(box))
