"""Every error raised on purpose, sorted by what the caller can do about it.

TelemetryFlowError
├── Invalid             the request can never succeed as sent
│   ├── TooLarge        it passes a size limit
│   ├── Unsupported     a media type, an encoding or a method that is not served
│   └── KeyReused       its idempotency key belongs to another request
├── Unauthenticated     the credentials are missing, malformed, unknown, expired or revoked
├── Forbidden           the credentials are good, but not for this
├── NotFound            no such thing
├── Conflict            the thing already exists, or its state does not allow this
│   └── Stale           it changed since it was read
├── RateLimited         this caller sends too much: retry later
└── Unavailable         a dependency is down or full: retry later
"""


class TelemetryFlowError(Exception):
    """Base of every error that this product raises on purpose; clients may see its text."""


class Invalid(TelemetryFlowError):
    """The request can never succeed as sent; `field` is the path of what is wrong, if known."""

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class TooLarge(Invalid):
    """The request passes a size limit."""


class Unsupported(Invalid):
    """A media type, a content encoding or a method that is not served."""


class KeyReused(Invalid):
    """The idempotency key of the request was used for another request before."""


class Unauthenticated(TelemetryFlowError):
    """The credentials are missing, malformed, unknown, expired or revoked."""


class Forbidden(TelemetryFlowError):
    """The credentials are good, but not for this."""


class NotFound(TelemetryFlowError):
    """No such thing."""


class Conflict(TelemetryFlowError):
    """The thing already exists, or its state does not allow this."""


class Stale(Conflict):
    """The thing changed since it was read."""


class RateLimited(TelemetryFlowError):
    """This caller sends too much: retry after *retry_after_seconds* (> 0)."""

    def __init__(self, message: str, *, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Unavailable(TelemetryFlowError):
    """A dependency is down or full: retry after *retry_after_seconds* (> 0)."""

    def __init__(self, message: str, *, retry_after_seconds: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds
