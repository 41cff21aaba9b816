"""Which addresses may be connected to."""

import socket

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from shared.errors import Invalid
from shared.security.addresses import AddressPolicy, CheckedResolver, SystemLookup

PUBLIC = [
    "1.1.1.1",
    "93.184.216.34",
    "172.32.0.1",
    "100.128.0.1",
    "2606:4700:4700::1111",
    "2a00::1",
]
PRIVATE = [
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "::1",
    "fc00::1",
    "fd12:3456::1",
]
NEVER = [
    "0.0.0.0",
    "0.1.2.3",
    "100.100.100.200",
    "168.63.129.16",
    "169.254.169.254",
    "169.254.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:1.1.1.1",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "2606:4700::5efe:7f00:1",
    "2606:4700::200:5efe:7f00:1",
    "3fff::1",
    "5f00::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "localhost",
    "",
    "1.1.1.1.",
    "0x7f000001",
    "2130706433",
]


class Names(AbstractResolver):
    """Knows the addresses of one name."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
            for address in self._addresses
        ]

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("address", PUBLIC)
@pytest.mark.parametrize("allow_private", [False, True])
def test_S50_public_addresses_are_allowed(address: str, allow_private: bool) -> None:
    AddressPolicy(allow_private=allow_private).require(address)


@pytest.mark.parametrize("address", PRIVATE)
def test_S50_private_addresses_are_allowed_only_where_the_installation_says_so(
    address: str,
) -> None:
    AddressPolicy(allow_private=True).require(address)

    with pytest.raises(Invalid) as refusal:
        AddressPolicy(allow_private=False).require(address)
    assert refusal.value.field == "url"


@pytest.mark.parametrize("address", NEVER)
@pytest.mark.parametrize("allow_private", [False, True])
def test_S50_what_is_no_host_is_never_allowed(address: str, allow_private: bool) -> None:
    with pytest.raises(Invalid):
        AddressPolicy(allow_private=allow_private).require(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "10.96.0.1", "2606:4700::1"])
def test_S50_the_networks_of_the_cluster_are_refused(address: str) -> None:
    denied = ["93.184.216.0/24", "10.96.0.0/12", "2606:4700::/32"]

    with pytest.raises(Invalid):
        AddressPolicy(allow_private=True, networks_denied=denied).require(address)


@pytest.mark.parametrize(
    "addresses", [("1.1.1.1", "10.0.0.1"), ("::1", "1.1.1.1"), ("1.1.1.1",) * 40 + ("127.0.0.1",)]
)
async def test_S51_a_name_with_one_forbidden_address_is_refused(addresses: tuple[str, ...]) -> None:
    resolver = CheckedResolver(AddressPolicy(allow_private=False), Names(*addresses))

    with pytest.raises(Invalid):
        await resolver.resolve("mixed.test", 443)


async def test_a_name_has_sixteen_addresses_at_most() -> None:
    resolver = CheckedResolver(AddressPolicy(allow_private=False), Names(*("1.1.1.1",) * 40))

    assert len(await resolver.resolve("many.test")) == 16


async def test_a_name_without_addresses_is_an_error_of_the_network() -> None:
    with pytest.raises(OSError, match="no address"):
        await CheckedResolver(AddressPolicy(allow_private=False), Names()).resolve("none.test")


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "2130706433", "127.1", "0x7f.1", "017700000001"],
)
async def test_S52_hosts_of_monitors_are_looked_up_and_checked(host: str) -> None:
    resolver = CheckedResolver(AddressPolicy(allow_private=False), SystemLookup())

    with pytest.raises(Invalid):
        await resolver.resolve(host, 5432)
    await resolver.close()


async def test_the_lookup_of_the_system_finds_this_machine() -> None:
    resolver = CheckedResolver(AddressPolicy(allow_private=True), SystemLookup())

    found = await resolver.resolve("127.0.0.1", 80)
    await resolver.close()

    assert [(result["host"], result["port"]) for result in found] == [("127.0.0.1", 80)]


async def test_a_name_that_cannot_be_one_is_refused() -> None:
    resolver = CheckedResolver(AddressPolicy(allow_private=False), SystemLookup())

    with pytest.raises(Invalid):
        await resolver.resolve("a" * 64 + "é.test")
    await resolver.close()
