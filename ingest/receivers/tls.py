"""TLS of the receivers: at least 1.2, and client certificates where an authority is given."""

import asyncio
import ssl
from pathlib import Path
from typing import Final

from shared.errors import Invalid

HTTP_PROTOCOLS: Final = ("http/1.1",)
GRPC_PROTOCOLS: Final = ("h2",)


def server_context(
    certificate: Path,
    key: Path,
    *,
    client_authority: Path | None = None,
    protocols: tuple[str, ...],
) -> ssl.SSLContext:
    """A server's context from PEM files; Invalid, naming the file, when one cannot be used.

    With *client_authority* clients must show a certificate that it signed. *protocols* are
    offered by ALPN.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(list(protocols))
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise Invalid(f"the certificate {certificate} with key {key}: {error}") from error
    if client_authority is not None:
        try:
            context.load_verify_locations(client_authority)
        except (OSError, ssl.SSLError) as error:
            raise Invalid(f"the client authority {client_authority}: {error}") from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def protocol_of(transport: asyncio.BaseTransport) -> str | None:
    """What TLS agreed to speak, "" when nothing; None without TLS."""
    tls = transport.get_extra_info("ssl_object")
    return None if tls is None else tls.selected_alpn_protocol() or ""
