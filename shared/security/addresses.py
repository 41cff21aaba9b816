"""Which addresses the product connects to when a user names the target.

Every outbound request and every check of a monitor asks here, so that nobody reaches through the
product what only the product can reach: itself, its databases, its neighbours, the metadata of the
cloud.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult

from shared.errors import Invalid, Unavailable

ADDRESSES_MAX: Final = 16
LOOKUP_THREADS: Final = 8
LOOKUPS_WAITING_MAX: Final = 256

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# What an installation may open to its own users: machines beside it.
_PRIVATE: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "::1/128",
        "fc00::/7",
    )
)
# What nobody has business with: no host of the public internet, or the cloud's metadata.
_NEVER: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "100.100.100.200/32",  # metadata of Alibaba Cloud
        "168.63.129.16/32",  # the host agent of Azure
        "169.254.0.0/16",  # link-local, with the metadata of most clouds
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "fd00:ec2::/32",  # metadata of AWS
        "fd20:ce::/32",  # metadata of Google Cloud
        "2001::/23",  # Teredo and other assignments of the protocol
        "2001:db8::/32",
        "2002::/16",  # 6to4: an IPv4 address in disguise
        "3fff::/20",
    )
)
# All public addresses of IPv6; IPv4-mapped ones, NAT64, link-local and multicast lie outside.
_PUBLIC_IPV6: Final = ipaddress.ip_network("2000::/3")
# The last 64 bits of ISATAP addresses begin so: another disguise of IPv4.
_ISATAP: Final = (0x00005EFE, 0x02005EFE)


class AddressPolicy:
    """Allows public addresses, and with *allow_private* those of the installation's own networks.

    Link-local addresses, the metadata of clouds, multicast, reserved ones and IPv4 addresses inside
    IPv6 ones are always refused, and so is *networks_denied* (CIDR), the cluster's own.
    """

    def __init__(self, *, allow_private: bool, networks_denied: Sequence[str] = ()) -> None:
        self._allow_private = allow_private
        self._denied: tuple[Network, ...] = (
            *_NEVER,
            *(ipaddress.ip_network(text) for text in networks_denied),
        )

    def require(self, address: str) -> None:
        """Invalid, unless connections to *address* (a literal one) are allowed."""
        if not self._allows(address):
            raise Invalid("the address of the target is not allowed", field="url")

    def _allows(self, text: str) -> bool:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return False
        if any(address in network for network in self._denied):
            return False
        if any(address in network for network in _PRIVATE):
            return self._allow_private
        if isinstance(address, ipaddress.IPv4Address):
            return True
        return address in _PUBLIC_IPV6 and (int(address) >> 32) & 0xFFFFFFFF not in _ISATAP


class SystemLookup(AbstractResolver):
    """The resolver of the system, in threads of its own: a slow name server stops nobody else."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(LOOKUP_THREADS, thread_name_prefix="lookup")
        self._lookups = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """All addresses of *host*; OSError if it has none, Unavailable if too many names wait."""
        if self._lookups >= LOOKUP_THREADS + LOOKUPS_WAITING_MAX:
            raise Unavailable("too many names are being looked up")
        self._lookups += 1
        lookup = asyncio.get_running_loop().run_in_executor(
            self._threads, _addresses_of, host, port, family
        )
        # Counted until the thread is done with it, which a caller that leaves does not change.
        lookup.add_done_callback(self._end)
        return await asyncio.shield(lookup)

    async def close(self) -> None:
        """Give up what waits; a lookup that runs ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _end(self, lookup: "asyncio.Future[list[ResolveResult]]") -> None:
        self._lookups -= 1
        if not lookup.cancelled():
            lookup.exception()  # Read, so that the loop does not report one that nobody awaits.


class CheckedResolver(AbstractResolver):
    """Gives out addresses that *policy* allows, each as it was checked."""

    def __init__(self, policy: AddressPolicy, lookup: AbstractResolver) -> None:
        self._policy = policy
        self._lookup = lookup

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of *host*, a name or an address, 16 at most.

        Invalid if one of them is not allowed: a name that mixes them is up to no good. OSError if
        there is none.
        """
        try:
            found = await self._lookup.resolve(host, port, family)
        except UnicodeError as error:
            raise Invalid("the target's name is none", field="url") from error
        if not found:
            raise OSError(f"{host} has no address")
        for result in found:
            self._policy.require(result["host"])
        return found[:ADDRESSES_MAX]

    async def close(self) -> None:
        """Close the lookup."""
        await self._lookup.close()


def _addresses_of(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
    found = socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
    return [
        ResolveResult(
            hostname=host,
            host=str(address[0]),
            port=port,
            family=result_family,
            proto=protocol,
            flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
        )
        for result_family, _type, protocol, _name, address in found
    ]
