"""The form of keys, and the peppers that their secrets are hashed with."""

import re
import stat
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shared.errors import Invalid
from shared.security.peppers import PEPPER_FILE, Peppers, new_key_id, new_secret
from shared.settings import Settings

OLD, NEW = "o" * 32, "n" * 32


def test_a_secret_carries_its_checksum() -> None:
    secret = new_secret()

    assert re.fullmatch(r"tfs_[0-9a-f]{64}", secret)
    assert int(secret[-8:], 16) == zlib.crc32(secret[4:-8].encode())
    assert re.fullmatch(r"tfk_[0-9a-f]{32}", new_key_id())


def test_a_rotated_pepper_goes_on_for_the_keys_that_it_made() -> None:
    before, after = Peppers.from_text(OLD), Peppers.from_text(f"{NEW}, {OLD}")

    kept = before.hash("tfs_x")

    assert after.current_id != before.current_id
    assert after.hash("tfs_x", before.current_id) == kept
    assert after.hash("tfs_x") != kept
    assert Peppers.from_text(NEW).hash("tfs_x", before.current_id) != kept


@pytest.mark.parametrize("text", ["", " , ", "short", f"{NEW},short"])
def test_a_pepper_that_can_be_guessed_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="API_KEY_PEPPER"):
        Peppers.from_text(text)


def test_one_is_made_on_first_use_for_its_owner_alone(tmp_path: Path) -> None:
    settings = Settings(telemetryflow_data_dir=str(tmp_path))
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: Peppers.of(settings).current_id, range(8)))

    assert len(found) == 1
    assert stat.S_IMODE((tmp_path / PEPPER_FILE).stat().st_mode) == 0o600
