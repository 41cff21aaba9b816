"""The directory from the API to gateways: real PostgreSQL, real gRPC."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, cast
from uuid import UUID

import pytest
import trustme

from benchmarks import payloads
from control.api_keys.directory import DirectoryFeed, _pages
from control.api_keys.directory_server import serve_directory
from ingest.admission import Admission, QuotaUsed, Throttled
from ingest.codec import Encoder
from ingest.directory import Directory, Principal
from ingest.directory_follower import DIRECTORY_FILE, DirectoryFollower
from ingest.signals import Signal
from shared.directory.directory_pb2 import FollowRequest, Limits
from shared.directory.state import DirectoryState
from shared.errors import Forbidden, TelemetryFlowError, Unauthenticated
from shared.postgres.database import address_of
from shared.postgres.scope import PLATFORM
from shared.security.credentials import Credentials
from shared.security.peppers import Peppers
from tests.control.client import Client
from tests.control.product import Running, running, settings_for
from tests.ports import free_port

SECONDS_MAX = 20.0
NEW = {"name": "Collectors"}
TOKEN = "a token for tests"


@pytest.fixture
async def product(database_address: Any, tmp_path: Path) -> AsyncIterator[Running]:
    settings = settings_for(
        database_address, tmp_path, directory_port=free_port(), directory_token=TOKEN
    )
    async with running(settings, tmp_path) as product:
        yield product


@asynccontextmanager
async def serving(product: Running, port: int = 0) -> AsyncIterator[DirectoryFeed]:
    """The directory of one API process; *port* instead of that of the settings."""
    settings = product.control.settings
    if port:
        settings = replace(settings, directory_port=port)
    feed = DirectoryFeed(product.control.database, settings.retention_days)
    stopping = asyncio.Event()
    async with AsyncExitStack() as stack:
        await serve_directory(feed, settings, stack)
        task = asyncio.create_task(feed.run(address_of(settings), stopping))
        yield feed
        stopping.set()
        await task


class Gate:
    """The part of a gateway that decides who may write."""

    def __init__(self, product: Running, folder: Path, **values: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        port = product.control.settings.directory_port
        settings = replace(
            product.control.settings,
            **{
                "telemetryflow_data_dir": str(folder),
                "directory_address": f"127.0.0.1:{port}",
                **values,
            },
        )
        self.path = folder / DIRECTORY_FILE
        self.directory = Directory(peppers=Peppers.of(product.control.settings))
        self.follower = DirectoryFollower(settings, self.directory)
        self.follower.load()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self.follower.follow())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def principal(self, made: Any) -> Principal:
        """Who sends with that key."""
        credentials = Credentials(made["key"]["keyId"], made["secret"])
        return self.directory.authenticate(credentials, Signal.TRACES)

    def says(self, made: Any) -> str:
        """What becomes of a request with that key."""
        try:
            return self.principal(made).tenant_id
        except TelemetryFlowError as error:
            return {Unauthenticated: "unauthenticated", Forbidden: "forbidden"}[type(error)]

    @property
    def revision(self) -> int:
        return self.directory.state.revision


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS_MAX):
        while not holds():
            await asyncio.sleep(0.01)


async def test_a_key_is_known_to_every_gateway_and_refused_after_its_revocation(
    product: Running, tmp_path: Path
) -> None:
    ada = await product.registered("ada@example.com")
    before = (await ada.post("/api-keys", NEW)).json
    async with (
        serving(product),
        Gate(product, tmp_path / "a") as first,
        Gate(product, tmp_path / "b") as second,
    ):
        gates = (first, second)
        await until(lambda: all(gate.says(before) == before["key"]["tenantId"] for gate in gates))
        after = (await ada.post("/api-keys", NEW)).json
        await until(lambda: all(gate.says(after) == after["key"]["tenantId"] for gate in gates))
        await ada.delete(f"/api-keys/{after['key']['id']}")
        await until(lambda: all(gate.says(after) == "unauthenticated" for gate in gates))
        assert all(gate.says(before) == before["key"]["tenantId"] for gate in gates)


async def test_a_tenant_that_is_switched_off_is_refused_and_one_that_is_purged_is_forgotten(
    product: Running, tmp_path: Path
) -> None:
    admin = await product.as_admin()
    ada = await product.registered("ada@example.com")
    made = (await ada.post("/api-keys", NEW)).json
    tenant = (await ada.get("/tenants")).json["data"][0]
    organization = f"/organizations/{tenant['organizationId']}"
    async with serving(product), Gate(product, tmp_path / "a") as gate:
        await until(lambda: gate.says(made) == tenant["id"])
        await admin.post(f"{organization}/deactivate")
        await until(lambda: gate.says(made) == "forbidden")
        await admin.post(f"{organization}/activate")
        await until(lambda: gate.says(made) == tenant["id"])
        assert (await admin.delete(organization)).status == 204
        await until(lambda: gate.says(made) == "forbidden")
        assert (await admin.post(f"{organization}/purge")).status == 204
        await until(lambda: gate.says(made) == "unauthenticated")


async def test_two_control_planes_say_the_same_and_a_gateway_goes_from_one_to_the_other(
    product: Running, tmp_path: Path
) -> None:
    ada = await product.registered("ada@example.com")
    made = (await ada.post("/api-keys", NEW)).json
    port = free_port()
    async with (
        serving(product, port),
        Gate(product, tmp_path / "b", directory_address=f"127.0.0.1:{port}") as second,
    ):
        async with serving(product), Gate(product, tmp_path / "a") as first:
            for gate in (first, second):
                await until(lambda gate=gate: gate.says(made) == made["key"]["tenantId"])  # type: ignore[misc]
            await ada.delete(f"/api-keys/{made['key']['id']}")
            for gate in (first, second):
                await until(lambda gate=gate: gate.says(made) == "unauthenticated")  # type: ignore[misc]
            await until(first.path.exists)
        new = (await ada.post("/api-keys", NEW)).json
        async with Gate(product, tmp_path / "a", directory_address=f"127.0.0.1:{port}") as moved:
            await until(lambda: moved.says(new) == new["key"]["tenantId"])
            assert moved.says(made) == "unauthenticated"


async def test_a_gateway_starts_from_its_file_and_serves_while_the_directory_is_away(
    product: Running, tmp_path: Path
) -> None:
    ada = await product.registered("ada@example.com")
    made = (await ada.post("/api-keys", NEW)).json
    async with serving(product), Gate(product, tmp_path / "a") as gate:
        await until(lambda: gate.says(made) == made["key"]["tenantId"])
    unknown = (await ada.post("/api-keys", NEW)).json

    async with Gate(product, tmp_path / "a") as gate:
        assert gate.says(made) == made["key"]["tenantId"]
        assert gate.says(unknown) == "unauthenticated"
        async with serving(product):
            await until(lambda: gate.says(unknown) == made["key"]["tenantId"])


async def test_a_file_that_cannot_be_written_is_left_alone_for_a_while_and_then_written(
    product: Running, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ada = await product.registered("ada@example.com")
    made = (await ada.post("/api-keys", NEW)).json
    async with serving(product), Gate(product, tmp_path / "a") as gate:
        # Nothing can take the place of a folder.
        (gate.path / "in the way").mkdir(parents=True)
        await until(lambda: gate.says(made) == made["key"]["tenantId"])
        await asyncio.sleep(0.3)
        assert caplog.text.count("stays as it was") == 1
        (gate.path / "in the way").rmdir()
        gate.path.rmdir()
        await until(gate.path.is_file)


async def test_a_gateway_that_comes_back_is_sent_what_changed_and_no_more(
    product: Running, tmp_path: Path
) -> None:
    ada = await product.registered("ada@example.com")
    kept = (await ada.post("/api-keys", NEW)).json
    async with serving(product) as feed, Gate(product, tmp_path / "a") as gate:
        await until(lambda: gate.says(kept) == kept["key"]["tenantId"])
        state = gate.directory.state
    new = (await ada.post("/api-keys", NEW)).json
    await feed.refresh()

    pieces = []
    async for piece in feed.follow(FollowRequest(epoch=state.epoch, revision=state.revision)):
        pieces.append(piece)
        if piece.ends_batch:
            break

    assert not any(piece.starts_anew for piece in pieces)
    sent = [key.id for piece in pieces for key in piece.keys]
    assert new["key"]["keyId"] in sent
    for piece in pieces:
        state.apply(piece)
    assert state.checksum == pieces[-1].checksum


@pytest.mark.parametrize(
    "request_of_another",
    [FollowRequest(), FollowRequest(epoch="another", revision=5), FollowRequest(revision=1 << 60)],
    ids=["nothing", "another database", "the future"],
)
async def test_who_knows_nothing_of_this_database_is_sent_everything(
    product: Running, request_of_another: FollowRequest
) -> None:
    feed = DirectoryFeed(product.control.database, product.control.settings.retention_days)
    await feed.refresh()

    state = DirectoryState()
    pieces = []
    async for piece in feed.follow(request_of_another):
        pieces.append(piece)
        state.apply(piece)
        if piece.ends_batch:
            break

    assert pieces[0].starts_anew
    assert state.checksum == pieces[-1].checksum
    assert "default" in state.tenants


async def test_a_gateway_whose_state_went_wrong_finds_out_and_fetches_it_again(
    product: Running, tmp_path: Path
) -> None:
    ada = await product.registered("ada@example.com")
    made = (await ada.post("/api-keys", NEW)).json
    async with serving(product), Gate(product, tmp_path / "a") as gate:
        await until(lambda: gate.says(made) == made["key"]["tenantId"])
        gate.directory.state.remove_key(made["key"]["keyId"])
        assert gate.says(made) == "unauthenticated"
        # The next change, or heartbeat, carries the sum.
        await ada.post("/api-keys", NEW)
        await until(lambda: gate.says(made) == made["key"]["tenantId"])


async def test_a_gateway_without_the_token_is_told_nothing(
    product: Running, tmp_path: Path
) -> None:
    ada = await product.registered("ada@example.com")
    made = (await ada.post("/api-keys", NEW)).json
    async with (
        serving(product),
        Gate(product, tmp_path / "a", directory_token="another") as stranger,
        Gate(product, tmp_path / "b") as gate,
    ):
        await until(lambda: gate.says(made) == made["key"]["tenantId"])
        assert stranger.revision == 0
        assert stranger.says(made) == "unauthenticated"


async def test_a_change_that_commits_late_is_not_missed(product: Running, ada: Client) -> None:
    """Its transaction began before others that were seen already."""
    first = (await ada.post("/api-keys", NEW)).json["key"]
    feed = DirectoryFeed(product.control.database, product.control.settings.retention_days)
    async with product.control.database.begin(PLATFORM) as late:
        await late.execute(
            "UPDATE api_keys SET status = 'revoked' WHERE key_id = $1", first["keyId"]
        )
        await ada.post("/api-keys", NEW)
        await feed.refresh()
        await ada.post("/api-keys", NEW)
        await feed.refresh()

    assert await feed.refresh()
    pieces = []
    async for piece in feed.follow(FollowRequest()):
        pieces.append(piece)
        if piece.ends_batch:
            break
    keys = {key.id: key for piece in pieces for key in piece.keys}
    assert keys[first["keyId"]].has_ended
    assert len(keys) == 3


async def test_a_gateway_trusts_the_authority_that_it_is_told(
    database_address: Any, tmp_path: Path
) -> None:
    authority, other = trustme.CA(), trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    files = {name: str(tmp_path / f"{name}.pem") for name in ("key", "cert", "ca", "other")}
    certificate.private_key_pem.write_to_path(files["key"])
    certificate.cert_chain_pems[0].write_to_path(files["cert"])
    authority.cert_pem.write_to_path(files["ca"])
    other.cert_pem.write_to_path(files["other"])
    settings = settings_for(
        database_address,
        tmp_path,
        directory_port=free_port(),
        directory_token=TOKEN,
        directory_tls_cert_file=files["cert"],
        directory_tls_key_file=files["key"],
    )
    async with running(settings, tmp_path) as product:
        made = (await (await product.registered("ada@example.com")).post("/api-keys", NEW)).json
        async with (
            serving(product),
            Gate(product, tmp_path / "a", directory_tls_ca_file=files["other"]) as wary,
            Gate(product, tmp_path / "b", directory_tls_ca_file=files["ca"]) as gate,
        ):
            await until(lambda: gate.says(made) == made["key"]["tenantId"])
            assert wary.says(made) == "unauthenticated"


async def test_a_key_is_rotated_under_load_without_one_refused_request_inside_the_grace(
    product: Running, tmp_path: Path
) -> None:
    ada = await product.registered("ada@example.com")
    old = (await ada.post("/api-keys", NEW)).json
    tenant = old["key"]["tenantId"]
    async with serving(product), Gate(product, tmp_path / "a") as gate:
        await until(lambda: gate.says(old) == tenant)
        answers: list[str] = []

        async def send() -> None:
            while True:
                answers.append(gate.says(old))
                await asyncio.sleep(0)

        sending = asyncio.create_task(send())
        new = (
            await ada.post(f"/api-keys/{old['key']['id']}/rotate", {"gracePeriodMinutes": 1})
        ).json
        await until(lambda: gate.says(new) == tenant)
        sending.cancel()
        assert len(answers) > 100
        assert set(answers) == {tenant}
        # Its grace over, it ends by the control plane's clock.
        gate.directory.clock_offset_seconds += 61
        assert gate.says(old) == "unauthenticated"
        assert gate.says(new) == tenant


async def test_a_look_for_changes_ends_though_keys_change_all_the_time() -> None:
    """In the order of their ids, behind the page that was read last."""

    class Changing:
        asked = 0

        async def fetch(self, *_: object) -> list[tuple[str]]:
            self.asked += 1
            return [(f"tfk_{self.asked:032x}",)]

    changing = Changing()
    pages = [rows async for rows in _pages(cast(Any, changing), "", 0)]

    assert (len(pages), changing.asked) == (1, 1)


@pytest.fixture
async def ada(product: Running) -> Client:
    return await product.registered("ada@example.com")


async def test_limits_set_over_the_api_reach_gateways(product: Running, tmp_path: Path) -> None:
    admin = await product.as_admin()
    ada = await product.registered("ada@example.com")
    made = (await ada.post("/api-keys", NEW)).json
    place = (await ada.get("/tenants")).json["data"][0]
    async with serving(product), Gate(product, tmp_path / "a") as gate:
        await until(lambda: gate.says(made) == place["id"])
        known = gate.principal(made)
        assert known.key is not None
        assert known.tenant is not None
        assert not known.key.HasField("limits")
        assert not known.tenant.HasField("limits")
        assert known.tenant.workspace == place["workspaceId"]

        own = {"limits": {"itemsPerSecond": 5}}
        await ada.patch(f"/api-keys/{made['key']['id']}", own)
        await until(lambda: _limits(gate, made, "key").items_per_second == 5)
        await ada.ask("PUT", "/ingestion-limits", {"bytesPerSecond": 9_000, "itemsPerSecond": 50})
        await until(lambda: _limits(gate, made, "tenant").bytes_per_second == 9_000)
        plan = {"description": "", "limits": {"itemsPerSecond": 40}, "quotas": {}}
        await admin.ask("PUT", "/ingestion-plans/free", plan)
        path = f"/organizations/{place['organizationId']}/ingestion-plan"
        await admin.ask("PUT", path, {"plan": "free"})
        await until(lambda: _limits(gate, made, "tenant").items_per_second == 40)
        plan["limits"] = {"itemsPerSecond": 30}
        await admin.ask("PUT", "/ingestion-plans/free", plan)
        await until(lambda: _limits(gate, made, "tenant").items_per_second == 30)
        assert _limits(gate, made, "tenant").bytes_per_second == 9_000

        limits = Admission(key_requests_per_minute=0, unix_clock=gate.directory.now)
        account = limits.account(gate.principal(made))
        account.admit(1)
        account.took(1_000)
        with pytest.raises(Throttled) as refused:
            account.admit(1)
        assert refused.value.reason == "key_items"


async def test_L04_a_guard_set_over_the_api_rejects_new_series_at_a_gateway(
    product: Running, tmp_path: Path
) -> None:
    ada = await product.registered("ada@example.com")
    made = (await ada.post("/api-keys", NEW)).json
    place = (await ada.get("/tenants")).json["data"][0]
    async with serving(product), Gate(product, tmp_path / "a") as gate:
        await until(lambda: gate.says(made) == place["id"])
        limits = Admission(key_requests_per_minute=0, unix_clock=gate.directory.now)
        assert limits.account(gate.principal(made)).guard() is None

        await ada.ask("PUT", "/ingestion-limits", {"newSeriesPerHour": 3})
        await until(lambda: _limits(gate, made, "tenant").new_series_per_hour == 3)
        encoder = Encoder("metrics", retention_days=30)
        [body] = payloads.requests("metrics", items=50, count=1)

        def send() -> dict[str, int]:
            guard = limits.account(gate.principal(made)).guard()
            assert guard is not None
            told = encoder.append(
                body, tenant=place["id"], received_ns=payloads.NOW_NS, guard=guard
            )
            return told.rejected

        refused = send()["too_many_new_series"]
        assert send() == {"too_many_new_series": refused}
        await ada.ask("PUT", "/ingestion-limits", {"newSeriesPerHour": 1_000})
        await until(lambda: _limits(gate, made, "tenant").new_series_per_hour == 1_000)
        assert send() == {}
        await ada.ask("PUT", "/ingestion-limits", {})
        await until(lambda: not _limits(gate, made, "tenant").new_series_per_hour)
        assert limits.account(gate.principal(made)).guard() is None


def _limits(gate: Gate, made: Any, whose: str) -> Limits:
    limits: Limits = getattr(gate.principal(made), whose).limits
    return limits


async def test_what_is_used_of_a_quota_reaches_gateways(product: Running, tmp_path: Path) -> None:
    ada = await product.registered("ada@example.com")
    made = (await ada.post("/api-keys", NEW)).json
    place = (await ada.get("/tenants")).json["data"][0]
    async with serving(product), Gate(product, tmp_path / "a") as gate:
        await until(lambda: gate.says(made) == place["id"])
        async with product.control.database.begin(PLATFORM) as connection:
            await connection.execute(
                """
                INSERT INTO ingestion_quotas VALUES
                  ($1, 'traces', '2026-02-01', 10, 12, 'grace', '2026-02-08T00:00:00Z'),
                  ($1, 'logs', '2026-02-01', 10, 20, 'refused', NULL)
                """,
                UUID(place["organizationId"]),
            )
        await until(lambda: len(gate.directory.state.tenants[place["id"]].quotas) == 2)

        now = datetime(2026, 2, 7, 23, 59, tzinfo=UTC).timestamp()
        limits = Admission(key_requests_per_minute=0, unix_clock=lambda: now)
        account = limits.account(gate.principal(made))
        account.check(Signal.TRACES)
        assert account.notice(Signal.TRACES) == (
            "12 of the 10 spans of this month are used; it is still taken until 2026-02-08 00:00 "
            "UTC, then refused until 2026-03-01 00:00 UTC: send less or raise the plan"
        )
        with pytest.raises(QuotaUsed, match=r"20 of the 10 log records.* until 2026-03-01 00:00"):
            account.check(Signal.LOGS)
        now = datetime(2026, 2, 8, tzinfo=UTC).timestamp()
        with pytest.raises(QuotaUsed):
            account.check(Signal.TRACES)
        now = datetime(2026, 3, 1, tzinfo=UTC).timestamp()
        account.check(Signal.TRACES)
        account.check(Signal.LOGS)
