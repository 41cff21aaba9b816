"""Where OTLP is served when nobody says otherwise."""

from shared.settings import Settings


def test_C001_C026_ports_and_limit_are_those_of_otlp_unless_they_are_set() -> None:
    plain = Settings.from_env({})
    assert (plain.ingest_grpc_port, plain.ingest_http_port) == (4317, 4318)
    assert plain.ingest_body_bytes_max == 64 << 20
    set_ = Settings.from_env(
        {"INGEST_GRPC_PORT": "1", "INGEST_HTTP_PORT": "2", "INGEST_BODY_BYTES_MAX": "3000"}
    )
    assert (set_.ingest_grpc_port, set_.ingest_http_port) == (1, 2)
    assert set_.ingest_body_bytes_max == 3_000
