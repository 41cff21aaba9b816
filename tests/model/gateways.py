"""What clients, gateways and the log do (`ingest.gateway`, `batcher`, `recent_requests`)."""

from collections.abc import Iterator

from tests.model.state import Bounds, Client, Gateway, Pending, Record, State

# What is done, the fault that it needs if any, and what comes of it.
Step = tuple[str, str | None, State]


def steps(state: State, bounds: Bounds) -> Iterator[Step]:
    """Everything that clients, gateways and the log can do next."""
    for request, client in enumerate(state.clients):
        if not client.acked and client.tries and not _is_awaited(state, request):
            yield from _send(state, bounds, request)
    for at, gateway in enumerate(state.gateways):
        for pending in gateway.pending:
            yield from _carry_on(state, bounds, at, pending)
        if gateway.pending:
            yield "a gateway crashes", "gateway crash", _with_gateway(state, at, Gateway())
    if state.first < len(state.logs[-1]):
        eaten = state._replace(first=state.first + 1)
        yield f"retention deletes offset {state.first}", "retention", eaten
    # A topic that was never read is not known: nobody could tell it from another.
    if state.logs[-1] and (state.committed.plan or state.committed.last is not None):
        anew = state._replace(logs=(*state.logs, ()), first=0)
        yield "the topic is deleted and made anew", "re-creation", anew


def _send(state: State, bounds: Bounds, request: int) -> Iterator[Step]:
    client = state.clients[request]
    tried = _with_client(state, request, client._replace(tries=client.tries - 1))
    for at, gateway in enumerate(state.gateways):
        if gateway in state.gateways[:at]:
            continue  # gateways are alike
        label = f"client sends request {request}"
        if request in gateway.recent:
            yield f"{label} again, and is told that it is stored", None, _acked(tried, request)
            continue
        others = tuple(one for one in gateway.pending if one.request != request)
        joined = [one for one in gateway.pending if one.request == request]
        entry = joined[0]._replace(awaited=True) if joined else Pending(request, 0, awaited=True)
        sent = _with_pending(tried, at, gateway, (*others, entry))
        yield label, None, sent if bounds.rules.ack_when_durable else _acked(sent, request)


def _carry_on(state: State, bounds: Bounds, at: int, pending: Pending) -> Iterator[Step]:
    gateway = state.gateways[at]
    request, appended, awaited = pending
    others = tuple(one for one in gateway.pending if one != pending)
    if awaited:
        alone = (*others, pending._replace(awaited=False))
        gave_up = _with_pending(state, at, gateway, alone)
        yield f"the client of request {request} gives up waiting", "client timeout", gave_up
    if appended < bounds.parts:
        record = f"part {appended} of request {request}"
        failed = _with_pending(state, at, gateway, others)
        yield f"the append of {record} is refused", "append refused", failed
        more = (*others, pending._replace(appended=appended + 1))
        done = _append(_with_pending(state, at, gateway, more), Record(request, appended))
        if awaited and not bounds.rules.ack_when_whole:
            done = _acked(done, request)
        yield f"{record} is appended", None, done
        lost = _append(failed, Record(request, appended))
        yield f"{record} is appended, but the answer is lost", "append answer lost", lost
    else:
        known = gateway._replace(pending=others, recent=gateway.recent | {request})
        answered = _with_gateway(state, at, known)
        if awaited:
            answered = _acked(answered, request)
        yield f"the gateway answers request {request}", None, answered


def _is_awaited(state: State, request: int) -> bool:
    return any(
        one.awaited and one.request == request
        for gateway in state.gateways
        for one in gateway.pending
    )


def _append(state: State, record: Record) -> State:
    return state._replace(logs=(*state.logs[:-1], (*state.logs[-1], record)))


def _acked(state: State, request: int) -> State:
    return _with_client(state, request, Client(acked=True, tries=0))


def _with_client(state: State, request: int, client: Client) -> State:
    clients = state.clients
    return state._replace(clients=(*clients[:request], client, *clients[request + 1 :]))


def _with_pending(state: State, at: int, gateway: Gateway, pending: tuple[Pending, ...]) -> State:
    return _with_gateway(state, at, gateway._replace(pending=tuple(sorted(pending))))


def _with_gateway(state: State, at: int, gateway: Gateway) -> State:
    # Gateways are alike, so their order is of no account.
    gateways = (*state.gateways[:at], gateway, *state.gateways[at + 1 :])
    return state._replace(
        gateways=tuple(sorted(gateways, key=lambda one: (one.pending, sorted(one.recent))))
    )
