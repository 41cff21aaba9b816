"""What must hold in every state, and what in every state in which all work is done."""

from tests.model.state import Bounds, Place, State, is_repeat


def violations(state: State, bounds: Bounds) -> list[str]:
    """Which invariants *state* breaks, in words; judged by what happened, not by the rules."""
    found = [*_of_answers(state, bounds), *_of_rows(state, bounds), *_of_the_commit(state, bounds)]
    if state.swallowed:
        found.append("I5: a known token swallowed rows that are not stored")
    if is_quiet(state):
        found += _of_the_quiet(state, bounds)
    return found


def is_quiet(state: State) -> bool:
    """Nothing is under way, and all that stands in the log was passed."""
    owner = state.owner
    return (
        owner is not None
        and owner.phase == "poll"
        and len(state.logs[-1]) in (owner.offset, state.first)
        and owner.incarnation == state.incarnation
        and state.zombie is None
        and not state.flights
        and not any(gateway.pending for gateway in state.gateways)
    )


def _of_answers(state: State, bounds: Bounds) -> list[str]:
    found = []
    for request, client in enumerate(state.clients):
        if client.acked:
            parts = {
                record.part for log in state.logs for record in log if record.request == request
            }
            if not parts:
                found.append("I1: a request is acknowledged that is not durable")
            elif len(parts) < bounds.parts:
                found.append("I2: a request is acknowledged of which only a part is durable")
    return found


def _of_rows(state: State, bounds: Bounds) -> list[str]:
    found = []
    if len(set(state.stored)) < len(state.stored):
        found.append("I4: a record is stored twice")
    if any(is_repeat(state, row, bounds.window) for row in state.stored):
        found.append("I9: a request is stored twice")
    if not state.dead.isdisjoint(state.stored):
        found.append("I12: a record is stored, and is a dead letter as well")
    return found


def _of_the_commit(state: State, bounds: Bounds) -> list[str]:
    found = []
    committed = state.committed
    for place in _lost(state, bounds):
        incarnation, offset = place
        if incarnation == committed.incarnation and offset < committed.offset:
            request = state.logs[incarnation][offset].request
            if request in bounds.poison:
                found.append("I11: a refused record is passed that is no dead letter")
            elif offset < state.first and incarnation == state.incarnation:
                found.append("I3: records that retention deleted are passed in silence")
            else:
                found.append("I3: a record is passed that is not stored")
    return found


def _of_the_quiet(state: State, bounds: Bounds) -> list[str]:
    found = []
    # What retention deleted unread is told with the next plan; a log left empty has none yet.
    lost = [
        place
        for place in _lost(state, bounds)
        if place[0] != state.incarnation or place[1] >= state.first
    ]
    if lost:
        found.append("I12: a record is neither stored nor a dead letter nor reported as lost")
    if state.counted != len(state.stored) + len(state.dead) and not state.reported:
        found.append("I12: the counts differ from what is stored")
    return found


def _lost(state: State, bounds: Bounds) -> list[Place]:
    """The durable records of which nothing is stored, buried or reported, but for repeats."""
    accounted = state.reported | state.dead | set(state.stored)
    return [
        (incarnation, offset)
        for incarnation, log in enumerate(state.logs)
        for offset in range(len(log))
        if (incarnation, offset) not in accounted
        and not is_repeat(state, (incarnation, offset), bounds.window)
    ]
