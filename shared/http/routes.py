"""Routes: a path, its handler, and all that the API promises about it.

A route declares the permission that it needs and the models of what goes in and out. The same
declaration checks requests (shared.http.endpoint), documents them (shared.http.openapi) and is
walked by tests.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel

from shared.http.models import Body, Query


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One operation of the API. *errors* are statuses beyond those that every route may answer."""

    method: str
    path: str
    handler: Callable[..., Awaitable[Any]]
    permission: str
    tag: str
    body: type[Body] | None = None
    query: type[Query] | None = None
    answer: type[BaseModel] | None = None
    status: int = 200
    errors: Sequence[int] = ()
    # Whether the resource has a version: answers carry it as ETag, edits heed If-Match.
    is_versioned: bool = False
    # Whether a person who must first change the password or confirm something may call it.
    is_open_to_unsettled: bool = False
    # Whether API keys that have the permission may call it, as people do.
    is_open_to_keys: bool = False
    # Whether answers hold a secret that is shown once: they are kept for no repeat.
    has_secret: bool = False
    # Counted against the limit of sign-in routes, by address.
    is_sign_in: bool = False
    # Below the prefix of the API, or at the root.
    is_prefixed: bool = True
    content_type: str = "application/json"
    # What the same answer may be besides.
    other_content_types: Sequence[str] = ()
    # What a stream of those content types consists of.
    item: type[BaseModel] | None = None
    # Whether it goes on, as server-sent events or over a WebSocket, and takes up where it broke.
    is_live: bool = False
    # Headers of its answer, with what they say.
    answer_headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its operation id: that of the handler."""
        return self.handler.__name__

    @property
    def parameters(self) -> list[str]:
        """The names of the path's parameters."""
        return re.findall(r"{(\w+)}", self.path)


H = TypeVar("H", bound=Callable[..., Awaitable[Any]])


class Declare(Protocol):
    """A decorator that leaves the handler as it is."""

    def __call__(self, handler: H) -> H: ...


@dataclass
class Routes:
    """The routes of one module, under one heading of the documentation."""

    tag: str
    description: str
    # What its routes say of API keys.
    is_open_to_keys: bool = False
    # Headers of all answers.
    answer_headers: Mapping[str, str] = field(default_factory=dict)
    found: list[Route] = field(default_factory=list)

    def add(self, method: str, path: str, *, permission: str, **options: Any) -> Declare:
        """The decorated handler serves *path*; options are the fields of `Route`.

        The handler takes the call, then the body and the query where the route declares them.
        """

        def declare(handler: H) -> H:
            route = Route(
                method=method,
                path=path,
                handler=handler,
                permission=permission,
                tag=self.tag,
                is_open_to_keys=self.is_open_to_keys,
                answer_headers=self.answer_headers,
                **options,
            )
            self.found.append(route)
            return handler

        return declare

    def get(self, path: str, *, permission: str, **options: Any) -> Declare:
        """A read."""
        return self.add("GET", path, permission=permission, **options)

    def post(self, path: str, *, permission: str, **options: Any) -> Declare:
        """A creation or an action."""
        return self.add("POST", path, permission=permission, **options)

    def put(self, path: str, *, permission: str, **options: Any) -> Declare:
        """A replacement."""
        return self.add("PUT", path, permission=permission, **options)

    def patch(self, path: str, *, permission: str, **options: Any) -> Declare:
        """A change of the fields that are given."""
        return self.add("PATCH", path, permission=permission, **options)

    def delete(self, path: str, *, permission: str, **options: Any) -> Declare:
        """A removal."""
        options.setdefault("status", 204)
        return self.add("DELETE", path, permission=permission, **options)
