"""Checkpoints in a real S3 server: written, locked, read back, believed against the database."""

import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from minio import Minio
from minio.commonconfig import COMPLIANCE

from control.audit.object_store import ObjectStore
from control.audit.verification import verify
from shared.errors import Invalid, Unavailable
from shared.messaging.events import utc_now
from shared.postgres.address import PostgresAddress
from shared.postgres.scope import PLATFORM
from shared.settings import Settings
from tests.control.product import Running, running, settings_for
from tests.ports import free_port

SERVER = Path(sys.prefix) / "s3" / "bin" / "moto_server"
START_SECONDS_MAX = 60
KEYS: dict[str, Any] = {"audit_s3_access_key": "writer", "audit_s3_secret_key": "its-own-secret"}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    if not SERVER.exists():
        pytest.skip("there is no S3 server: run make .venv/.s3")
    address = f"127.0.0.1:{free_port()}"
    command = [str(SERVER), "-H", "127.0.0.1", "-p", address.partition(":")[2]]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_SECONDS_MAX
        while not _answers(f"http://{address}/moto-api/"):
            assert process.poll() is None
            assert time.monotonic() < deadline, "the S3 server does not answer"
            time.sleep(0.1)
        client = Minio(endpoint=address, access_key="a", secret_key="b", secure=False)
        client.make_bucket(bucket_name="locked", object_lock=True)
        yield f"http://{address}"
    finally:
        process.kill()
        process.wait()


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


@pytest.fixture
async def product(
    database_address: PostgresAddress, tmp_path: Path, endpoint: str
) -> AsyncIterator[Running]:
    settings = settings_for(
        database_address,
        tmp_path,
        audit_s3_endpoint=endpoint,
        audit_s3_bucket="locked",
        audit_s3_prefix=f"/{tmp_path.name}/",
        audit_s3_retention_days=30,
        **KEYS,
    )
    async with running(settings, tmp_path) as product:
        yield product


async def test_G03_a_checkpoint_is_kept_under_a_lock_where_the_database_s_owner_cannot_write(
    product: Running, endpoint: str
) -> None:
    checkpoints = product.control.audit.checkpoints
    await product.work()
    async with product.control.database.read(PLATFORM) as connection:
        assert await checkpoints.write(connection, now=utc_now())

    store = ObjectStore(product.control.settings)
    ((name, _line),) = store.lines()
    client = Minio(
        endpoint=endpoint.removeprefix("http://"), access_key="a", secret_key="b", secure=False
    )
    kept = client.stat_object(bucket_name="locked", object_name=name).metadata
    assert kept is not None
    assert kept["x-amz-object-lock-mode"] == COMPLIANCE
    assert (
        kept["x-amz-object-lock-retain-until-date"] > f"{utc_now() + timedelta(days=29):%Y-%m-%d}"
    )
    # The files of this machine are lost, or were altered along with the database.
    (path,) = (product.control.settings.data_dir / "audit").glob("*.jsonl")
    path.unlink()
    signed = [one async for one in checkpoints.read()]
    assert [one.is_genuine for one in signed] == [True]
    async with product.control.database.snapshot(PLATFORM) as connection:
        keys = product.control.audit.keys
        assert (await verify(connection, signed, keys=keys, archive=None)).findings == []


async def test_a_store_that_is_away_is_told_and_the_file_is_written_all_the_same(
    database_address: PostgresAddress, tmp_path: Path
) -> None:
    settings = settings_for(
        database_address,
        tmp_path,
        audit_s3_endpoint=f"http://127.0.0.1:{free_port()}",
        audit_s3_bucket="locked",
        **KEYS,
    )
    async with running(settings, tmp_path) as product:
        await product.work()
        with pytest.raises(Unavailable, match="AUDIT_S3_") as raised:
            async with product.control.database.read(PLATFORM) as connection:
                await product.control.audit.checkpoints.write(connection, now=utc_now())
    assert "its-own-secret" not in str(raised.value)
    assert len(list((tmp_path / "audit").glob("*.jsonl"))) == 1


@pytest.mark.parametrize("text", ["s3.example.com", "ftp://s3", "https://s3/bucket"])
def test_an_address_that_is_none_is_refused_with_what_to_do(text: str) -> None:
    with pytest.raises(Invalid, match="http:// or https://"):
        ObjectStore(Settings(audit_s3_endpoint=text, audit_s3_bucket="b"))
    with pytest.raises(Invalid, match="AUDIT_S3_BUCKET"):
        ObjectStore(Settings(audit_s3_endpoint="https://s3.example.com"))
