"""The whole control plane on a fresh database: the API over HTTP, and its worker on demand."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest

from control.app import ROUTES, Control, open_control
from control.audit.recorder import Recorder
from control.auth.domain import Account
from control.first_start import NewPerson, begin
from shared.caller import NOBODY
from shared.cors.middleware import TenantRules, cors_middleware
from shared.http.application import build_application
from shared.messaging.events import utc_now
from shared.messaging.relay import Relay
from shared.postgres.address import PostgresAddress
from shared.postgres.database import address_of
from shared.postgres.scope import PLATFORM
from shared.queue.worker import Worker
from shared.settings import Settings
from tests.control.client import Client
from tests.control.core_api import serving
from tests.control.people import Seeded

WAIT_SECONDS_MAX = 20.0
PASSWORD = "Correct-Horse-7-battery"
# Cheap enough for tests; the product's own default is eight times as much.
HASH_MEMORY_KIB = 8_192


def settings_for(address: PostgresAddress, folder: Path, **values: Any) -> Settings:
    """Settings of a control plane on *address*, with limits that do not get into tests' way."""
    defaults: dict[str, Any] = {
        "telemetryflow_env": "test",
        "telemetryflow_data_dir": str(folder),
        "db_host": address.host,
        "db_port": address.port,
        "db_username": address.user,
        "db_password": address.password,
        "db_database": address.database,
        "db_ssl": "disable",
        "password_hash_memory_kib": HASH_MEMORY_KIB,
        "throttle_limit": 1_000_000,
        "throttle_auth_limit": 1_000_000,
        # Tests name the address that they come from.
        "api_trusted_proxies": "127.0.0.1/32",
    }
    return Settings(**{**defaults, **values})


@dataclass
class Running:
    """A control plane, a client of it, and what its people were told."""

    control: Control
    client: Client
    admin: NewPerson
    folder: Path
    cors: TenantRules

    async def work(self) -> None:
        """Carry all events and run all jobs that are there."""
        relay = Relay(self.control.database, self.control.events)
        recorder = Recorder(self.control.database, self.control.audit.keys)
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            while await relay.carry() or await recorder.record() or await self._run_jobs():
                pass

    async def _run_jobs(self) -> bool:
        pool = self.control.database.pool
        waiting = "SELECT count(*) FROM pgqueuer WHERE status IN ('queued', 'picked')"
        if not await pool.fetchval(waiting):
            return False
        stopping = asyncio.Event()
        worker = Worker(address_of(self.control.settings), self.control.jobs)
        running = asyncio.create_task(worker.run(stopping))
        while await pool.fetchval(waiting):
            await asyncio.sleep(0.02)
        stopping.set()
        await running
        return True

    def mails(self, to: str) -> list[Any]:
        """Mails to an address, the oldest first."""
        files = sorted((self.folder / "mails").glob("*.eml"))
        found = [message_from_bytes(file.read_bytes(), policy=policy.default) for file in files]
        return [mail for mail in found if mail["To"] == to]

    def link_token(self, to: str) -> str:
        """The token of the link in the last mail to an address that has one."""
        for mail in reversed(self.mails(to)):
            text = mail.get_body(("plain",)).get_content()
            if match := re.search(r"#token=(\S+)", text):
                return match[1]
        raise AssertionError(f"no mail with a link to {to}")

    async def sign_in(self, email: str, password: str = PASSWORD, **fields: Any) -> Any:
        """The answer of a sign-in."""
        body = {"email": email, "password": password, **fields}
        return await self.client.post("/auth/login", body)

    async def as_person(self, email: str, password: str = PASSWORD) -> Client:
        """A client that is signed in."""
        answer = await self.sign_in(email, password)
        assert answer.status == 200, answer.text
        return self.client.as_(answer.json["accessToken"])

    async def tokens_of(self, seeded: Seeded) -> dict[int, str]:
        """An access token for each of the people of *seeded*, by the level of their tier."""
        kit, now = self.control.kit, utc_now()
        tokens = {}
        async with kit.work.begin(PLATFORM) as auth:
            for level, user_id in seeded.people.items():
                account = Account(
                    id=user_id,
                    organization_id=seeded.organization,
                    email=f"{user_id}@example.com",
                    password_hash="none that anybody knows",
                    password_changed_at=now,
                    email_verified_at=now,
                )
                await auth.accounts.save(account)
                pair = await kit.open_session(auth, account, NOBODY, has_mfa=False, now=now)
                tokens[level] = pair.access_token
        return tokens

    async def as_admin(self) -> Client:
        """The first administrator, with a password of their own."""
        client = await self.as_person(self.admin.email, self.admin.password)
        answer = await client.post(
            "/auth/change-password",
            {"currentPassword": self.admin.password, "newPassword": PASSWORD},
        )
        assert answer.status == 200, answer.text
        return client

    async def registered(self, email: str) -> Client:
        """A new person with an organization of their own, signed in."""
        body = {"email": email, "password": PASSWORD, "firstName": "Ada", "lastName": "Lovelace"}
        answer = await self.client.post("/auth/register", body)
        assert answer.status == 201, answer.text
        await self.work()
        verified = await self.client.post("/auth/verify-email", {"token": self.link_token(email)})
        assert verified.status == 200, verified.text
        await self.work()
        return await self.as_person(email)


@asynccontextmanager
async def running(settings: Settings, folder: Path) -> AsyncIterator[Running]:
    """The API until the block ends."""
    async with open_control(settings) as control:
        (admin,) = await begin(control)
        cors = TenantRules(control.database)
        application = build_application(
            control.services, ROUTES, [cors_middleware(control.settings, cors)]
        )
        async with serving(application) as url, Client(url) as client:
            yield Running(control, client, admin, folder, cors)


@pytest.fixture
async def product(database_address: PostgresAddress, tmp_path: Path) -> AsyncIterator[Running]:
    """A control plane of this test's own."""
    async with running(settings_for(database_address, tmp_path), tmp_path) as product:
        yield product
