"""TLS of the receivers, on both gRPC engines and HTTP: versions, clients, files that change."""

import asyncio
import os
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest
import trustme
from cryptography import x509

from ingest.receivers.grpc import GrpcReceiver
from ingest.receivers.grpc_grpcio import GrpcioReceiver
from ingest.receivers.http import HttpReceiver
from ingest.receivers.limits import Limits
from ingest.receivers.listener import Receiver
from ingest.receivers.tls import GRPC_PROTOCOLS, HTTP_PROTOCOLS, ServerTls, TlsFiles
from tests.attacks.frames import opening
from tests.contract.fake_gateway import FakeGateway
from tests.contract.raw_http import SECONDS_MAX, post, until
from tests.contract.test_receiver_operation import growth_of
from tests.streams import cut

RECEIVERS: dict[str, Callable[..., Receiver]] = {
    "http": HttpReceiver,
    "ngh2": GrpcReceiver,
    "grpcio": GrpcioReceiver,
}
LIMITS = Limits(tick_seconds=0.02)


class Site:
    """A folder with the files of a server, its authority, and clients' authorities."""

    def __init__(self, folder: Path, *, with_clients: bool = False) -> None:
        self.authority = trustme.CA()
        self.clients = trustme.CA()
        authority = folder / "clients.pem"
        self.files = TlsFiles(
            folder / "certificate.pem",
            folder / "key.pem",
            authority if with_clients else None,
        )
        self.clients.cert_pem.write_to_path(authority)
        self.renew()

    def renew(self) -> int:
        """Put a new certificate into the place of the old one; its serial number."""
        issued = self.authority.issue_cert("localhost")
        for path, blob in (
            (self.files.certificate, issued.cert_chain_pems[0]),
            (self.files.key, issued.private_key_pem),
        ):
            fresh = path.with_suffix(".new")
            blob.write_to_path(fresh)
            os.replace(fresh, path)
        return x509.load_pem_x509_certificate(issued.cert_chain_pems[0].bytes()).serial_number

    def client(self, identity: trustme.CA | None = None) -> ssl.SSLContext:
        """A client's context; with a certificate of *identity*."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.authority.configure_trust(context)
        context.set_alpn_protocols(["h2", "http/1.1"])
        if identity is not None:
            identity.issue_cert("client@example.org").configure_cert(context)
        return context


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


class Running:
    """A receiver of one kind with TLS; an async context manager."""

    def __init__(self, kind: str, files: TlsFiles, limits: Limits = LIMITS) -> None:
        self.gateway = FakeGateway()
        tls = ServerTls(files, HTTP_PROTOCOLS if kind == "http" else GRPC_PROTOCOLS)
        self.receiver = RECEIVERS[kind](self.gateway, "127.0.0.1", 0, limits=limits, tls=tls)
        self._hello = post(b"x") if kind == "http" else opening()

    async def __aenter__(self) -> Self:
        await self.receiver.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.receiver.drain(1)

    async def connect(
        self, client: ssl.SSLContext
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("localhost", self.receiver.port, ssl=client)

    async def serial(self, client: ssl.SSLContext) -> int:
        """The serial number of the certificate that a new connection is shown, once it serves."""
        reader, writer = await self.connect(client)
        try:
            certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            await self.speak(reader, writer)
            return x509.load_der_x509_certificate(certificate).serial_number
        finally:
            await cut(writer)

    async def speak(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Say something; returns when the receiver has said something too."""
        writer.write(self._hello)
        async with asyncio.timeout(SECONDS_MAX):
            if not await reader.read(1 << 16):
                raise ConnectionResetError("closed")

    async def refuses(self, client: ssl.SSLContext) -> bool:
        try:
            await self.serial(client)
        except (OSError, asyncio.IncompleteReadError):
            return True
        return False


@pytest.mark.parametrize("kind", list(RECEIVERS))
async def test_C107_new_connections_get_the_new_certificate_and_old_ones_go_on(
    kind: str, site: Site
) -> None:
    first = site.renew()
    async with Running(kind, site.files) as running:
        client = site.client()
        assert await running.serial(client) == first
        reader, writer = await running.connect(client)
        await running.speak(reader, writer)
        second = site.renew()
        await _until_serial(running, client, second)
        if kind == "http":
            await running.speak(reader, writer)
        else:
            writer.write(b"\0\0\x08\x06\0\0\0\0\0" + bytes(8))
            async with asyncio.timeout(SECONDS_MAX):
                assert await reader.read(1 << 16)
        await cut(writer)


async def _until_serial(running: Running, client: ssl.SSLContext, serial: int) -> None:
    async with asyncio.timeout(SECONDS_MAX):
        while await running.serial(client) != serial:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("kind", list(RECEIVERS))
async def test_C107_files_that_cannot_be_used_leave_the_old_ones_in_force(
    kind: str, site: Site
) -> None:
    failed = growth_of("tls_reloads_total", outcome="failed")
    done = growth_of("tls_reloads_total", outcome="done")
    serial = site.renew()
    async with Running(kind, site.files) as running:
        client = site.client()
        certificate = site.files.certificate.read_bytes()
        site.files.certificate.write_bytes(b"half a certifi")
        assert await running.serial(client) == serial
        await until(lambda: failed() == 1)
        assert await running.serial(client) == serial
        site.files.certificate.write_bytes(certificate)
        await _until_serial(running, client, serial)
        await until(lambda: done() == 1)
        site.files.certificate.unlink()
        assert await running.serial(client) == serial


@pytest.mark.parametrize("kind", list(RECEIVERS))
async def test_C107_clients_must_show_a_certificate_where_an_authority_is_set(
    kind: str, tmp_path: Path
) -> None:
    site = Site(tmp_path, with_clients=True)
    async with Running(kind, site.files) as running:
        assert await running.refuses(site.client())
        assert await running.refuses(site.client(trustme.CA()))
        assert await running.serial(site.client(site.clients))
        # Another authority takes over: whom the old one vouched for is refused from now on.
        old, site.clients = site.clients, trustme.CA()
        authority = site.files.client_authority
        assert authority is not None
        site.clients.cert_pem.write_to_path(authority)
        async with asyncio.timeout(SECONDS_MAX):
            while not await running.refuses(site.client(old)):
                await asyncio.sleep(0.02)
        assert await running.serial(site.client(site.clients))


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
@pytest.mark.parametrize("kind", list(RECEIVERS))
async def test_C107_tls_1_1_is_refused_and_1_2_and_1_3_are_taken(kind: str, site: Site) -> None:
    async with Running(kind, site.files) as running:
        for version in (ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            client = site.client()
            # Else the client itself would refuse it.
            client.set_ciphers("ALL:@SECLEVEL=0")
            client.minimum_version = client.maximum_version = version
            assert await running.refuses(client) == (version == ssl.TLSVersion.TLSv1_1)


@pytest.mark.parametrize("kind", ["http", "ngh2"])
async def test_L08_L09_connections_count_while_their_handshake_is_awaited(
    kind: str, site: Site
) -> None:
    refused = {
        reason: growth_of(
            "connections_refused_total",
            transport="http" if kind == "http" else "grpc",
            reason=reason,
        )
        for reason in ("connections_per_address", "tls_handshake")
    }
    limits = Limits(tick_seconds=0.02, connections_per_address_max=3, tls_handshake_seconds=0.5)
    async with Running(kind, site.files, limits) as running:
        port = running.receiver.port
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(SECONDS_MAX):
            assert await reader.read() == b""
        await cut(writer)
        assert refused["connections_per_address"]() == 1
        for reader, writer in silent:
            async with asyncio.timeout(SECONDS_MAX):
                assert await reader.read() == b""
            await cut(writer)
        await until(lambda: refused["tls_handshake"]() == 3)
        # Three connections at once again, each of which is one, not two.
        served = [await running.connect(site.client()) for _ in range(3)]
        for reader, writer in served:
            await running.speak(reader, writer)
        for _, writer in served:
            await cut(writer)


async def test_S06_a_flood_of_handshakes_waits_for_its_turns(site: Site) -> None:
    limits = Limits(tick_seconds=0.02, tls_handshakes_per_second_max=20)
    async with Running("http", site.files, limits) as running:
        begun = time.monotonic()
        serials = await asyncio.gather(*(running.serial(site.client()) for _ in range(30)))
        assert len(serials) == 30
        # Twenty at once, for none was asked for before, then one after the other.
        assert time.monotonic() - begun > 0.4
