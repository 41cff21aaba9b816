"""The answers of one HTTP/1.1 connection, sent in the order of its requests."""

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, cast

from ingest.exports import Answer
from ingest.receivers import http_responses as responses
from ingest.receivers.bodies import IDENTITY, inflated
from ingest.receivers.http_exchange import Exchange
from ingest.receivers.http_head import HeadReader
from ingest.receivers.http_requests import Export
from ingest.receivers.statuses import Refusal, refusal_of
from shared.errors import TelemetryFlowError, Unavailable

if TYPE_CHECKING:
    from ingest.receivers.http import HttpReceiver

logger = logging.getLogger(__name__)


class HttpAnswers(HeadReader):
    """What becomes of requests once they are received, until the connection is closed."""

    def __init__(self, listener: "HttpReceiver") -> None:
        super().__init__(listener.limits)
        self._listener = listener
        self._gateway = listener.gateway
        self._transport = cast("asyncio.Transport", None)
        # Requests whose answers have not left yet, the one that is being received among them.
        self._queue: deque[Exchange] = deque()
        self._has_key = False
        self._linger_until = 0.0
        self._half_closed = False
        self._served = self._failures = 0
        self._stalled_since = 0.0

    async def _serve(self, exchange: Exchange) -> None:
        export = cast("Export", exchange.export)
        try:
            body = exchange.take_body()
            if export.compression is not IDENTITY:
                body = await inflated(body, export.compression, exchange.hold, self._limits)
            answer = await self._gateway.export(
                export.signal, export.credentials, export.encoding, body
            )
            self._succeed(exchange, export, answer)
        except asyncio.CancelledError:
            if not exchange.expired:
                self._listener.counts.requests[export.signal, "cancelled"] += 1
                raise
            self._fail(exchange, Unavailable("the gateway took too long; send the request again"))
        except TelemetryFlowError as error:
            self._fail(exchange, error)
        except Exception as error:
            # Anything else is a defect: the client hears nothing of it but "again" (D3).
            logger.exception("an export over HTTP failed")
            self._fail(exchange, error)
        finally:
            exchange.hold.release()
        self._flush()

    def _succeed(self, exchange: Exchange, export: Export, answer: Answer) -> None:
        self._failures = max(self._failures - 1, 0)
        outcome = "partial" if answer.rejected else "ok"
        self._listener.counts.requests[export.signal, outcome] += 1
        keep_alive = exchange.keep_alive and not self._listener.draining
        exchange.keep_alive = keep_alive
        exchange.response = responses.succeeded(
            export.signal, export.encoding, answer, keep_alive=keep_alive, extra=exchange.extra
        )

    def _fail(self, exchange: Exchange, error: BaseException) -> Refusal:
        refusal = refusal_of(error)
        signal = exchange.export.signal if exchange.export else ""
        self._listener.counts.requests[signal, refusal.outcome] += 1
        self._failures += refusal.retry_seconds is None
        if self._failures > self._limits.failures_max:
            self._listener.counts.refused_connection("failures")
            exchange.keep_alive = False
        exchange.keep_alive = exchange.keep_alive and not self._listener.draining
        exchange.response = responses.refused(
            refusal,
            encoding=exchange.encoding,
            keep_alive=exchange.keep_alive,
            extra=exchange.extra,
        )
        return refusal

    def _flush(self) -> None:
        """Write the answers whose turn it is."""
        queue = self._queue
        while queue and queue[0].complete and (answer := queue[0].response) is not None:
            exchange = queue.popleft()
            self._served += 1
            self._transport.write(answer)
            if not exchange.keep_alive:
                self._finish()
                return
        if queue:
            return
        self._since = self._loop.time()
        if self._half_closed:
            self._finish()
        else:
            self._read_on()

    def _finish(self) -> None:
        """Close so that the client gets to read the last answer, if it does so soon."""
        self._closing = True
        linger_seconds = self._limits.linger(has_key=self._has_key)
        self._linger_until = self._loop.time() + linger_seconds
        transport = self._transport
        if self._half_closed or transport.is_closing() or not transport.can_write_eof():
            transport.close()
        else:
            transport.write_eof()

    def _read_on(self) -> None:
        if not (self._closing or self._stalled_since or self._transport.is_closing()):
            self._transport.resume_reading()
