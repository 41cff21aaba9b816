"""The address of a client: X-Forwarded-For counts only when a trusted proxy sent it (S22)."""

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

from aiohttp import web

from shared.errors import Invalid

HOPS_MAX: Final = 20


class ClientAddress:
    """Reads addresses; *trusted* are networks of our own proxies, as text."""

    def __init__(self, trusted: str) -> None:
        try:
            self._trusted: list[IPv4Network | IPv6Network] = [
                ip_network(one.strip()) for one in trusted.split(",") if one.strip()
            ]
        except ValueError as error:
            raise Invalid(f"API_TRUSTED_PROXIES={trusted}: {error}") from None

    def of(self, request: web.Request) -> str:
        """The nearest hop that is not a proxy of ours."""
        address = request.remote or ""
        hops = ",".join(request.headers.getall("X-Forwarded-For", [])).split(",")[-HOPS_MAX:]
        while self._is_trusted(address) and hops:
            hop = hops.pop().strip()
            try:
                address = str(ip_address(hop))
            except ValueError:
                break
        return address

    def _is_trusted(self, address: str) -> bool:
        try:
            known = ip_address(address)
        except ValueError:
            return False
        return any(known in network for network in self._trusted)
