"""The folder that mails are kept in where no mail server is set."""

from pathlib import Path

import pytest

from shared.email import mails
from shared.email.mailer import KEPT_FILES_MAX, FolderMailer
from shared.errors import Unavailable
from shared.settings import Settings

MAIL = mails.welcome("ada@example.com", first_name="Ada", url="http://localhost:3000", key="one")


def mailer_in(folder: Path) -> FolderMailer:
    return FolderMailer(Settings(telemetryflow_data_dir=str(folder)))


async def test_only_the_last_mails_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "mails"
    folder.mkdir()
    for number in range(KEPT_FILES_MAX + 3):
        (folder / f"{number:019}.eml").touch()

    await mailer_in(tmp_path).send(MAIL)

    kept = sorted(folder.iterdir())
    assert len(kept) == KEPT_FILES_MAX
    assert kept[0].name == f"{4:019}.eml"
    assert b"Ada" in kept[-1].read_bytes()


async def test_others_on_the_machine_cannot_look_into_the_folder(tmp_path: Path) -> None:
    await mailer_in(tmp_path).send(MAIL)

    assert (tmp_path / "mails").stat().st_mode & 0o077 == 0


async def test_a_folder_that_cannot_be_written_is_tried_later(tmp_path: Path) -> None:
    (tmp_path / "mails").write_text("a file is in the way")

    with pytest.raises(Unavailable, match="cannot be kept"):
        await mailer_in(tmp_path).send(MAIL)
