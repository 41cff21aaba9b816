"""Every limit of the receivers with its default."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What a client may use of one receiver; times in seconds, sizes in bytes."""

    # A request's body, as sent and again after decompression. OTLP's own default.
    body_bytes_max: int = 64 << 20
    # Members of one gzip stream and frames of one zstd stream: each costs a new decoder.
    compressed_members_max: int = 1_024
    # log2 of the largest zstd window: 8 MiB, what RFC 8878 asks decoders to support.
    zstd_window_log_max: int = 23

    connections_max: int = 4_000
    connections_per_address_max: int = 200
    # A tenant may have so many times the connections for which there is still room: one alone gets
    # four fifths of them, and whoever comes next finds room, however many clients the others have.
    connections_share_of_free: int = 4
    tls_handshake_seconds: float = 10.0
    # More wait for their turn: each costs half a millisecond and more of CPU.
    tls_handshakes_per_second_max: int = 400
    # From connecting, or from the first byte of a request, to the end of its headers.
    header_seconds: float = 10.0
    idle_seconds: float = 75.0
    # A body is given up that after the grace has come slower than this, or takes longer in all.
    body_grace_seconds: float = 10.0
    body_bytes_per_second_min: int = 10 << 10
    body_seconds_max: float = 60.0
    # From the end of a body to the answer.
    handler_seconds: float = 30.0
    # How long a client may leave answers unread.
    write_stalled_seconds: float = 30.0

    url_bytes_max: int = 4 << 10
    header_line_bytes_max: int = 8 << 10
    headers_max: int = 100
    headers_bytes_max: int = 32 << 10
    # Requests of one connection that the client gave up or that were refused for what they are,
    # beyond those that succeeded.
    failures_max: int = 500
    # Requests read ahead on one HTTP/1.1 connection; and what one read may bring of a connection
    # whose last read was many small requests: all of them are taken in one turn of the event loop.
    pipelined_requests_max: int = 64
    pipelined_read_bytes: int = 4 << 10
    # What chunked bodies may have beside data: sizes, extensions, trailers, and what was read
    # together with their head. A fourth of the data is allowed on top.
    chunk_overhead_bytes_max: int = 128 << 10
    # Of the body of a refused request, what is read and thrown away; after a good key all of it is,
    # as long as `linger` says.
    discarded_bytes_max: int = 16 << 10
    # How long a closed connection waits for the client to read the last answer, without a good key.
    linger_seconds: float = 2.0

    streams_max: int = 128
    # HTTP/2 receive windows. Bytes are accounted as they are read, so these bound the network
    # only: large enough that a distant client is not held up by round trips.
    stream_window_bytes: int = 4 << 20
    connection_window_bytes: int = 16 << 20
    frame_bytes_max: int = 1 << 20
    metadata_bytes_max: int = 16 << 10
    # Pings between two requests; a client that keeps alive needs one in ten seconds.
    pings_max: int = 100
    # Events between two requests of one connection that bring no data, or tiny pieces of it:
    # acknowledgements, window updates, settings, empty and nearly empty frames.
    idle_events_max: int = 4_000
    data_piece_bytes_min: int = 32
    # (burst, in a second) of frames that HTTP/2 has to put up with: unknown, late, ill-timed.
    glitches_rate: tuple[int, int] = (1_000, 33)
    # What one read may bring of a connection whose last read was not mostly data: all that is in
    # it is taken in one turn of the event loop.
    busy_read_bytes: int = 16 << 10
    # gRPC clients keep connections for later calls; one without calls and pings ends after this.
    grpc_idle_seconds: float = 300.0
    connection_age_seconds: float = 1_800.0
    connection_age_grace_seconds: float = 30.0

    # How often time limits are looked at, and so how far they may be off.
    tick_seconds: float = 0.5

    def linger(self, *, has_key: bool) -> float:
        """How long a connection that is to be closed waits for the client to read the last answer.

        Many clients read nothing before they have sent all. One with a key gets that time, so that
        it reads the answer, and does not take a broken connection for a reason to try again.
        """
        return self.body_grace_seconds if has_key else self.linger_seconds

    def too_slow(self, received_bytes: int, seconds: float) -> bool:
        """Whether a body of which *received_bytes* came within *seconds* is given up."""
        if seconds <= self.body_grace_seconds:
            return False
        expected = (seconds - self.body_grace_seconds) * self.body_bytes_per_second_min
        return received_bytes < expected or seconds > self.body_seconds_max
