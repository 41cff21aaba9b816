"""Who may write, decided from what is in memory, and how that survives in a file."""

from pathlib import Path

import pytest

from ingest.directory import Directory, TenantContradiction, keyless_tenant
from ingest.directory_follower import DIRECTORY_FILE, state_at_start
from ingest.signals import Signal
from shared.directory import PLATFORM_KEY_ID, new_tenant, platform_secret, retention_class
from shared.directory.directory_pb2 import FollowResponse, Key
from shared.directory.state import DirectoryState
from shared.errors import Forbidden, Invalid, Unauthenticated
from shared.security.credentials import Credentials
from shared.security.peppers import Peppers
from shared.settings import Settings
from tests.directory_states import DAYS, add_key, add_tenant, state_of

PEPPERS = Peppers.from_text("p" * 32)
NOW = 1_777_000_000.0


def directory_of(
    state: DirectoryState, *, keyless: str | None = None, now: float = NOW
) -> Directory:
    directory = Directory(peppers=PEPPERS, keyless_tenant=keyless, clock=lambda: now)
    directory.state = state
    return directory


def test_a_key_gives_its_tenant_and_the_retention_of_the_signal() -> None:
    state = state_of("acme")
    key, secret = add_key(state, PEPPERS, "acme")

    principal = directory_of(state).authenticate(Credentials(key.id, secret), Signal.LOGS)

    assert (principal.tenant_id, principal.retention_days) == ("acme", 30)


def test_S15_an_unknown_key_and_a_wrong_secret_are_told_alike() -> None:
    state = state_of("acme")
    key, _secret = add_key(state, PEPPERS, "acme")
    directory = directory_of(state)

    with pytest.raises(Unauthenticated) as wrong:
        directory.authenticate(Credentials(key.id, "tfs_" + "0" * 64), Signal.TRACES)
    with pytest.raises(Unauthenticated) as unknown:
        directory.authenticate(Credentials("tfk_" + "0" * 31 + "1", "tfs_" + "0" * 64), Signal.LOGS)

    assert str(wrong.value) == str(unknown.value)


def test_S15_secrets_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for a key that nobody has: as many bytes, once."""
    compared: list[tuple[int, int]] = []

    def compare(given: bytes, held: bytes) -> bool:
        compared.append((len(given), len(held)))
        return given == held

    monkeypatch.setattr("ingest.directory.hmac.compare_digest", compare)
    state = state_of("acme")
    key, secret = add_key(state, PEPPERS, "acme")
    directory = directory_of(state)

    directory.authenticate(Credentials(key.id, secret), Signal.TRACES)
    for key_id in (key.id, "tfk_" + "0" * 31 + "1"):
        with pytest.raises(Unauthenticated):
            directory.authenticate(Credentials(key_id, "tfs_" + "0" * 64), Signal.TRACES)

    assert compared == [(32, 32)] * 3


def test_a_key_ends_by_the_control_planes_clock() -> None:
    state = state_of("acme")
    key, secret = add_key(state, PEPPERS, "acme", works_until=int(NOW))
    credentials = Credentials(key.id, secret)
    behind = directory_of(state, now=NOW - 3_600)
    behind.clock_offset_seconds = 3_600
    ahead = directory_of(state, now=NOW + 3_600)
    ahead.clock_offset_seconds = -3_601

    with pytest.raises(Unauthenticated, match="revoked or expired"):
        behind.authenticate(credentials, Signal.TRACES)
    assert ahead.authenticate(credentials, Signal.TRACES).tenant_id == "acme"


def test_a_key_that_has_ended_is_refused_though_it_was_used_before() -> None:
    state = state_of("acme")
    key, secret = add_key(state, PEPPERS, "acme")
    directory = directory_of(state)
    credentials = Credentials(key.id, secret)
    directory.authenticate(credentials, Signal.TRACES)

    ended = Key()
    ended.CopyFrom(key)
    ended.has_ended, ended.changed = True, 2
    state.put_key(ended)

    with pytest.raises(Unauthenticated, match="revoked"):
        directory.authenticate(credentials, Signal.TRACES)


def test_a_key_writes_only_its_signals() -> None:
    state = state_of("acme")
    key, secret = add_key(state, PEPPERS, "acme", signals=("traces",))

    with pytest.raises(Forbidden, match="may not write logs"):
        directory_of(state).authenticate(Credentials(key.id, secret), Signal.LOGS)


@pytest.mark.parametrize(
    ("address", "is_allowed"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("2001:db8::7", True),
        ("11.1.2.3", False),
        ("2001:db9::7", False),
        ("", False),
    ],
)
def test_a_key_is_used_from_its_networks_alone(address: str, is_allowed: bool) -> None:
    state = state_of("acme")
    key, secret = add_key(state, PEPPERS, "acme", networks=["10.0.0.0/8", "2001:db8::/32"])
    credentials = Credentials(key.id, secret, address=address)

    if is_allowed:
        assert directory_of(state).authenticate(credentials, Signal.LOGS).tenant_id == "acme"
    else:
        with pytest.raises(Forbidden, match="may not be used from"):
            directory_of(state).authenticate(credentials, Signal.LOGS)


def test_I14_another_tenant_than_the_keys_is_refused() -> None:
    state = state_of("acme", "globex")
    key, secret = add_key(state, PEPPERS, "acme")

    with pytest.raises(Forbidden, match="X-Tenant-Id"):
        directory_of(state).authenticate(
            Credentials(key.id, secret, tenant_id="globex"), Signal.TRACES
        )


def test_I14_another_workspace_than_the_tenants_is_refused_where_it_is_known() -> None:
    state = state_of("acme", workspace="shop")
    add_tenant(state, "young", "")
    key, secret = add_key(state, PEPPERS, "acme")
    young, young_secret = add_key(state, PEPPERS, "young")
    directory = directory_of(state, keyless="acme")

    def sender(*claims: str | None, workspace: str) -> str:
        key_id, secret = claims
        credentials = Credentials(key_id, secret or "", workspace_id=workspace)
        return directory.authenticate(credentials, Signal.TRACES).tenant_id

    assert sender(key.id, secret, workspace="shop") == "acme"
    assert sender(None, None, workspace="shop") == "acme"
    assert sender(young.id, young_secret, workspace="bank") == "young"
    for claims in ((key.id, secret), (None, None)):
        with pytest.raises(TenantContradiction, match="X-Workspace-Id") as error:
            sender(*claims, workspace="bank")
        assert error.value.tenant_id == "acme"


def test_a_key_of_a_workspace_needs_its_permission_and_a_tenant_that_is_active() -> None:
    state = state_of("acme", workspace="shop")
    add_tenant(state, "old", "shop", is_active=False)
    key, secret = add_key(state, PEPPERS, "", workspace="shop", signals=("logs",))
    directory = directory_of(state)

    def sender(signal: Signal, tenant: str | None) -> str:
        credentials = Credentials(key.id, secret, tenant_id=tenant)
        return directory.authenticate(credentials, signal).tenant_id

    assert sender(Signal.LOGS, "acme") == "acme"
    with pytest.raises(Forbidden, match="may not write traces"):
        sender(Signal.TRACES, "acme")
    with pytest.raises(Forbidden, match="deactivated"):
        sender(Signal.LOGS, "old")
    with pytest.raises(TenantContradiction, match="X-Tenant-Id"):
        sender(Signal.LOGS, "platform")


def test_a_key_that_belongs_to_nothing_writes_for_nobody() -> None:
    """As a gateway would see a kind of key that is newer than it."""
    state = state_of("acme")
    key, secret = add_key(state, PEPPERS, "")

    with pytest.raises(Forbidden, match="nothing that this gateway knows"):
        directory_of(state).authenticate(Credentials(key.id, secret), Signal.LOGS)


def test_a_tenant_that_is_deactivated_or_gone_takes_nothing() -> None:
    state = state_of("acme")
    key, secret = add_key(state, PEPPERS, "acme")
    state.put_tenant(new_tenant("acme", DAYS, is_active=False))

    with pytest.raises(Forbidden, match="deactivated"):
        directory_of(state).authenticate(Credentials(key.id, secret), Signal.TRACES)
    state.remove_tenant("acme")
    with pytest.raises(Forbidden, match="does not exist any more"):
        directory_of(state).authenticate(Credentials(key.id, secret), Signal.TRACES)


def test_the_product_itself_writes_as_the_tenant_platform() -> None:
    secret = platform_secret(PEPPERS.current)
    directory = directory_of(state_of("default"))

    principal = directory.authenticate(Credentials(PLATFORM_KEY_ID, secret), Signal.LOGS)

    assert (principal.tenant_id, principal.retention_days) == ("platform", 7)
    with pytest.raises(Unauthenticated):
        directory.authenticate(Credentials(PLATFORM_KEY_ID, "tfs_" + "0" * 64), Signal.LOGS)


def test_without_credentials_only_the_embedded_loopback_accepts() -> None:
    state = state_of("default")
    nobody = Credentials(None, "")

    assert (
        directory_of(state, keyless="default").authenticate(nobody, Signal.TRACES).tenant_id
        == "default"
    )
    with pytest.raises(Unauthenticated, match="API key is needed"):
        directory_of(state).authenticate(nobody, Signal.TRACES)
    assert keyless_tenant(embedded=True, host="127.0.0.1") == "default"
    assert keyless_tenant(embedded=True, host="0.0.0.0") is None
    assert keyless_tenant(embedded=False, host="127.0.0.1") is None


async def test_a_directory_survives_its_file_and_keeps_no_secret(tmp_path: Path) -> None:
    state = state_of("acme", "default")
    key, secret = add_key(state, PEPPERS, "acme")
    state.epoch, state.revision = "e", 7
    path = tmp_path / "directory.bin"

    await state.save(path)
    loaded = DirectoryState.load(path)

    assert (loaded.epoch, loaded.revision, loaded.checksum) == ("e", 7, state.checksum)
    assert (loaded.tenants, loaded.key(key.id)) == (state.tenants, key)
    assert secret.encode() not in path.read_bytes()
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("damage", ["", "{}", "cut", "flipped"])
async def test_a_damaged_file_is_told_and_the_gateway_begins_with_the_default_tenant(
    tmp_path: Path, damage: str
) -> None:
    path = tmp_path / DIRECTORY_FILE
    await state_of("acme").save(path)
    whole = path.read_bytes()
    damaged = {"cut": whole[:-1], "flipped": whole[:-1] + bytes([whole[-1] ^ 1])}
    path.write_bytes(damaged.get(damage, damage.encode()))

    with pytest.raises(Invalid, match=r"directory\.bin"):
        DirectoryState.load(path)
    with pytest.raises(FileNotFoundError):
        DirectoryState.load(tmp_path / "other")
    assert set(state_at_start(path, Settings()).tenants) == {"default"}


def test_the_sum_is_the_same_whatever_way_a_state_came_about() -> None:
    state, other = state_of("acme", "globex"), state_of("globex")
    key, _ = add_key(state, PEPPERS, "acme")
    removed, _ = add_key(state, PEPPERS, "globex")
    state.remove_key(removed.id)

    for piece in state.pieces():
        other.apply(piece)
    assert other.checksum == state.checksum != DirectoryState().checksum
    other.apply(FollowResponse(removed_keys=[key.id, "tfk_unknown"], removed_tenants=["acme"]))
    assert other.checksum == state_of("globex").checksum


def test_retention_is_rounded_up_to_a_class_that_bounds_partitions() -> None:
    assert [retention_class(days) for days in (1, 3, 4, 14, 31, 395)] == [3, 3, 7, 14, 90, 395]
    for days in (0, -1, 396):
        with pytest.raises(Invalid, match="choose 1 to 395"):
            retention_class(days)


@pytest.mark.parametrize("name", ["", "-a", "a b", "a/b", "a'b", "x" * 65, "ä"])
def test_a_tenant_whose_name_would_not_fit_a_database_is_refused(name: str) -> None:
    with pytest.raises(Invalid, match="tenant"):
        new_tenant(name, DAYS)


def test_S15_what_was_found_for_a_key_is_forgotten_with_the_entries_behind_it() -> None:
    state = state_of("acme")
    key, secret = add_key(state, PEPPERS, "acme")
    directory = directory_of(state)
    credentials = Credentials(key.id, secret)

    def changed() -> Key:
        one = Key()
        one.CopyFrom(key)
        one.changed += 1
        return one

    def replaced_by(entry: Key) -> Credentials:
        assert directory.authenticate(credentials, Signal.TRACES).tenant_id == "acme"
        state.put_key(entry)
        return credentials

    other = changed()
    other.secret_hash = PEPPERS.hash("tfs_" + "0" * 64)
    with pytest.raises(Unauthenticated, match="wrong secret"):
        directory.authenticate(replaced_by(other), Signal.TRACES)
    state.put_key(key)
    logs_only = changed()
    del logs_only.permissions[:]
    logs_only.permissions.append("logs:write")
    with pytest.raises(Forbidden, match="may not write traces"):
        directory.authenticate(replaced_by(logs_only), Signal.TRACES)
    state.put_key(key)
    elsewhere = changed()
    elsewhere.allowed_networks.append("10.0.0.0/8")
    with pytest.raises(Forbidden, match="may not be used from"):
        directory.authenticate(replaced_by(elsewhere), Signal.TRACES)
    state.put_key(key)
    directory.authenticate(credentials, Signal.TRACES)
    state.put_tenant(new_tenant("acme", {"traces": 90, "metrics": 30, "logs": 30}))
    assert directory.authenticate(credentials, Signal.TRACES).retention_days == 90
    state.remove_tenant("acme")
    with pytest.raises(Forbidden, match="does not exist"):
        directory.authenticate(credentials, Signal.TRACES)


def test_S15_what_was_found_for_a_key_is_not_given_for_another_secret_header_or_signal() -> None:
    state = state_of("acme")
    key, secret = add_key(state, PEPPERS, "acme", signals=["traces"])
    directory = directory_of(state)
    directory.authenticate(Credentials(key.id, secret), Signal.TRACES)

    with pytest.raises(Unauthenticated):
        directory.authenticate(Credentials(key.id, "tfs_" + "0" * 64), Signal.TRACES)
    with pytest.raises(Forbidden):
        directory.authenticate(Credentials(key.id, secret, tenant_id="globex"), Signal.TRACES)
    with pytest.raises(Forbidden):
        directory.authenticate(Credentials(key.id, secret), Signal.LOGS)


def test_a_key_that_was_used_ends_when_its_time_is_over() -> None:
    state = state_of("acme")
    key, secret = add_key(state, PEPPERS, "acme", works_until=int(NOW) + 1)
    times = iter([NOW, NOW, NOW + 1, NOW + 1])
    directory = Directory(peppers=PEPPERS, clock=lambda: next(times))
    directory.state = state

    directory.authenticate(Credentials(key.id, secret), Signal.TRACES)
    directory.authenticate(Credentials(key.id, secret), Signal.TRACES)

    with pytest.raises(Unauthenticated, match="revoked or expired"):
        directory.authenticate(Credentials(key.id, secret), Signal.TRACES)
