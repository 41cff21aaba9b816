"""Opaque tokens."""

import re

import pytest

from shared.security.opaque_tokens import OpaqueKind, digest, new_token


@pytest.mark.parametrize("kind", OpaqueKind)
def test_A25_a_token_has_256_random_bits_behind_its_prefix(kind: OpaqueKind) -> None:
    token = new_token(kind)

    assert re.fullmatch(kind.value + r"[A-Za-z0-9_-]{43}", token)
    assert new_token(kind) != token


def test_the_kinds_have_the_prefixes_that_scanners_know() -> None:
    assert {kind: kind.value for kind in OpaqueKind} == {
        OpaqueKind.REFRESH: "tfr_",
        OpaqueKind.PASSWORD_RESET: "tfw_",
        OpaqueKind.EMAIL_VERIFICATION: "tfv_",
        OpaqueKind.INVITATION: "tfi_",
        OpaqueKind.TRUSTED_DEVICE: "tfd_",
    }


def test_S11_a_token_with_the_prefix_of_another_kind_is_not_found() -> None:
    token = new_token(OpaqueKind.INVITATION)

    assert digest(token) != digest(OpaqueKind.PASSWORD_RESET.value + token[4:])


def test_a_token_is_found_by_its_digest() -> None:
    token = new_token(OpaqueKind.REFRESH)

    assert digest(token) == digest(token)
    assert len(digest(token)) == 32
    assert token.encode() not in digest(token)


def test_what_is_no_token_has_a_digest_that_nobody_stored() -> None:
    assert len(digest("\ud800")) == 32
