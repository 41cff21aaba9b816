"""A certificate for TLS tests."""

import ssl
import subprocess
from pathlib import Path

import pytest

from ingest.receivers.tls import GRPC_PROTOCOLS, HTTP_PROTOCOLS, ServerTls, TlsFiles


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for localhost, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    files = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-out", str(files[0]), "-keyout", str(files[1])),
        ],
        check=True,
        capture_output=True,
        timeout=30,
    )
    return files


@pytest.fixture
def server_tls(certificate: tuple[Path, Path]) -> ServerTls:
    return ServerTls(TlsFiles(*certificate), HTTP_PROTOCOLS)


@pytest.fixture
def grpc_tls(certificate: tuple[Path, Path]) -> ServerTls:
    return ServerTls(TlsFiles(*certificate), GRPC_PROTOCOLS)


@pytest.fixture
def client_tls(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certificate[0])
