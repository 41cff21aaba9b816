"""`telemetryflow key`: API keys over the API of the control plane.

Whoever calls shows an access token in TELEMETRYFLOW_TOKEN, or signs in with --email and a password,
which is asked for or stands in TELEMETRYFLOW_PASSWORD.
"""

import getpass
import json
import urllib.error
import urllib.request
from argparse import Namespace
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from shared.errors import Invalid, TelemetryFlowError, Unauthenticated, Unavailable
from shared.settings import Settings

SECONDS_MAX: Final = 30
_LISTED_MAX: Final = 100


def create(settings: Settings, options: Namespace) -> int:
    """Make a key that writes."""
    signals = [one.strip() for one in options.signals.split(",") if one.strip()]
    body = {
        "scope": options.scope,
        "name": options.name,
        "permissions": [f"{signal}:write" for signal in signals],
        "expiresInDays": options.days,
    }
    _show(Api(settings, options).ask("POST", "/api-keys", body))
    return 0


def list_keys(settings: Settings, options: Namespace) -> int:
    """The newest keys that write for the tenant."""
    answer = Api(settings, options).ask("GET", f"/api-keys?limit={_LISTED_MAX}")
    table = Table("id", "name", "scope", "allows", "expires", "state", "last used", box=None)
    for key in answer["data"]:
        allows = ",".join(key["permissions"])
        used = (key["lastUsedAt"] or "never")[:16].replace("T", " ")
        row = (key["keyId"], key["name"], key["scope"], allows, key["expiresAt"][:10])
        table.add_row(*row, key["status"], used)
    console = Console(width=160)
    console.print(table)
    if answer["meta"]["total"] > _LISTED_MAX:
        console.print(f"and {answer['meta']['total'] - _LISTED_MAX} older ones: ask the API")
    return 0


def rotate(settings: Settings, options: Namespace) -> int:
    """Replace a key; the old one works until the grace is over."""
    api = Api(settings, options)
    path = f"/api-keys/{_id_of(api, options.key_id)}/rotate"
    _show(api.ask("POST", path, {"gracePeriodMinutes": options.grace}))
    return 0


def revoke(settings: Settings, options: Namespace) -> int:
    """Refuse a key from now on."""
    api = Api(settings, options)
    api.ask("POST", f"/api-keys/{_id_of(api, options.key_id)}/revoke")
    print(f"{options.key_id} is revoked; gateways refuse it within a second.")
    return 0


def _id_of(api: "Api", key_id: str) -> str:
    found = api.ask("GET", f"/api-keys?search={key_id}")["data"]
    if len(found) != 1 or found[0]["keyId"] != key_id:
        raise Invalid(f"your tenant has no key {key_id}: see `telemetryflow key list`")
    return str(found[0]["id"])


def _show(made: dict[str, Any]) -> None:
    key = made["key"]
    print(f"Key {key['name']}, until {key['expiresAt'][:10]}. The secret is shown only now:\n")
    print(f"  id      {key['keyId']}")
    print(f"  secret  {made['secret']}\n")
    print("For an OpenTelemetry SDK or collector:\n")
    print(f'  OTEL_EXPORTER_OTLP_HEADERS="{made["otlpHeaders"]}"')


class Api:
    """The API as one person."""

    def __init__(self, settings: Settings, options: Namespace) -> None:
        base = options.api.rstrip("/") or f"http://127.0.0.1:{settings.port}"
        if not base.startswith(("http://", "https://")):
            raise Invalid("--api is an address such as https://telemetry.example.com")
        self._url = f"{base}/{settings.api_prefix.strip('/')}"
        self._headers = {"Content-Type": "application/json"}
        if options.tenant:
            self._headers["X-Tenant-Id"] = options.tenant
        self._headers["Authorization"] = f"Bearer {self._token(settings, options.email)}"

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON of the answer; what the API refuses is told in its words."""
        request = urllib.request.Request(  # noqa: S310 - checked above
            f"{self._url}{path}",
            None if body is None else json.dumps(body).encode(),
            self._headers,
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=SECONDS_MAX) as answer:  # noqa: S310
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            raise _refusal(error) from None
        except OSError as error:
            raise Unavailable(
                f"the API at {self._url} does not answer ({error}): is `telemetryflow up` "
                "running? --api names another"
            ) from None

    def _token(self, settings: Settings, email: str) -> str:
        if not email:
            if not settings.telemetryflow_token:
                raise Unauthenticated(
                    "sign in with --email, or set TELEMETRYFLOW_TOKEN to an access token"
                )
            return settings.telemetryflow_token
        password = settings.telemetryflow_password or getpass.getpass()
        answer = self.ask("POST", "/auth/login", {"email": email, "password": password})
        if not answer.get("accessToken"):
            raise Unauthenticated(
                "this account asks for a second factor: sign in over the API, and set "
                "TELEMETRYFLOW_TOKEN to the access token"
            )
        return str(answer["accessToken"])


def _refusal(error: urllib.error.HTTPError) -> TelemetryFlowError:
    try:
        problem = json.loads(error.read())
        fields = [f"{one['field']}: {one['message']}" for one in problem.get("errors", [])]
        return Invalid("; ".join([problem["detail"], *fields]))
    except (ValueError, KeyError, TypeError):
        return Unavailable(f"the API answered {error.code}")
