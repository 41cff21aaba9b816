"""Real-time events on a real NATS server, which may be away."""

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import nats

from shared.messaging.nats import RealtimePublisher, realtime_publisher
from tests.ports import free_port

SECONDS_MAX = 20.0


def row(event_type: str) -> dict[str, Any]:
    return {
        "event_type": event_type,
        "event_id": uuid4(),
        "payload": {"isActive": False},
        "occurred_at": datetime.now(UTC),
        "organization_id": uuid4(),
        "tenant_id": None,
    }


@asynccontextmanager
async def server(port: int, folder: Path) -> AsyncIterator[None]:
    binary = Path(sys.executable).parent / "nats-server"
    process = subprocess.Popen(
        [str(binary), "-a", "127.0.0.1", "-p", str(port), "-sd", str(folder)],
        stderr=subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(SECONDS_MAX):
            while True:
                with contextlib.suppress(OSError):
                    _reader, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    await writer.wait_closed()
                    break
                await asyncio.sleep(0.02)
        yield
    finally:
        process.kill()
        process.wait(10)


async def heard(publish: RealtimePublisher, port: int) -> Any:
    """What a listener gets of one event that is published until it arrives."""
    client = await nats.connect(f"nats://127.0.0.1:{port}")
    listening = await client.subscribe("events.>")
    await client.flush()
    async with asyncio.timeout(SECONDS_MAX):
        while not listening.pending_msgs:
            publish([row("UserCreated"), row("UserStatusChanged")])
            await asyncio.sleep(0.1)
    message = await listening.next_msg()
    await client.close()
    return message


async def test_real_time_events_are_broadcast_and_others_are_not(tmp_path: Path) -> None:
    port = free_port()
    async with server(port, tmp_path), realtime_publisher(f"nats://127.0.0.1:{port}") as publish:
        message = await heard(publish, port)

    document = json.loads(message.data)
    assert message.subject == "events.UserStatusChanged"
    assert document["type"] == "UserStatusChanged"
    assert document["data"] == {"isActive": False}
    assert message.headers["Nats-Msg-Id"] == document["eventId"]


async def test_F46_NATS_that_is_away_hurts_nobody_and_is_found_again(tmp_path: Path) -> None:
    port = free_port()
    async with realtime_publisher(f"nats://127.0.0.1:{port}") as publish:
        publish([row("UserStatusChanged")])
        async with server(port, tmp_path):
            await heard(publish, port)
        publish([row("UserStatusChanged")])
        async with server(port, tmp_path):
            message = await heard(publish, port)

    assert message.subject == "events.UserStatusChanged"
