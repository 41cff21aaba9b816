"""What writers and ClickHouse do (`ingest.partition_writer`, `plans`, `repeats`).

A writer that lost its partition without knowing is the zombie. Its commits are refused, and that
ends it; an insert of it may slip through.
"""

from collections.abc import Iterator

from tests.model.gateways import Step
from tests.model.state import (
    Bounds,
    Committed,
    Insert,
    Place,
    Plan,
    State,
    Token,
    Writer,
    is_repeat,
)


class Work:
    """What a plan comes to next: the group, its bounds and records; none when all is done."""

    def __init__(self, state: State, bounds: Bounds, writer: Writer) -> None:
        assert writer.plan is not None
        self.plan: Plan = writer.plan
        self.rows: tuple[Place, ...] = ()
        kept = _kept(state, bounds, writer.rows)
        for group in range(bounds.parts):
            while (cuts := bounds_of(self.plan, group)) is not None and len(cuts) > 1:
                self.group, self.cuts = group, cuts
                offsets = range(self.plan.start + cuts[0], self.plan.start + cuts[1])
                self.rows = tuple(
                    (incarnation, offset)
                    for incarnation, offset in kept
                    if offset in offsets and state.logs[incarnation][offset].part == group
                )
                if self.rows:
                    return
                self.plan = self.done()

    def token(self, bounds: Bounds) -> Token:
        """See `ingest.plans.insert_token`."""
        named = self.plan.incarnation if bounds.rules.token_names_incarnation else 0
        first, end = self.cuts[:2]
        return (named, self.plan.start, self.plan.end, self.group, first, end)

    def done(self) -> Plan:
        """The plan behind this insert."""
        return self.plan._replace(cut=(self.group, self.cuts[1:]))

    def cut(self) -> Plan:
        """The plan after this insert was refused: in halves, or decided to be buried."""
        if len(self.rows) == 1:
            buried = self.plan.buried | {self.rows[0][1]}
            return self.plan._replace(cut=(self.group, self.cuts), buried=buried)
        middle = self.rows[len(self.rows) // 2][1] - self.plan.start
        return self.plan._replace(cut=(self.group, (self.cuts[0], middle, *self.cuts[1:])))


def bounds_of(plan: Plan, group: int) -> tuple[int, ...] | None:
    """See `ingest.plans.Plan.bounds_of`."""
    if plan.cut is None or group > plan.cut[0]:
        return (0, plan.end - plan.start + 1)
    return plan.cut[1] if group == plan.cut[0] else None


def steps(state: State, bounds: Bounds) -> Iterator[Step]:
    """Everything that writers and ClickHouse can do next."""
    owner, zombie = state.owner, state.zombie
    if owner is None:
        yield "a writer is given the partition", None, state._replace(owner=Writer())
    else:
        for label, fault, after, then in _writer_steps(state, bounds, owner):
            yield f"the writer {label}", fault, after._replace(owner=then)
        yield "the writer crashes", "writer crash", state._replace(owner=None)
        lost = state._replace(owner=Writer(), zombie=owner)
        if zombie is None:
            yield "the partition goes to another writer; the old one sleeps", "rebalance", lost
    if zombie is not None:
        yield "the old writer gives up", None, state._replace(zombie=None)
        slip = "slip" if bounds.rules.fenced_commits else None
        for label, fault, after, then in _writer_steps(state, bounds, zombie):
            wrote_log = after.committed != state.committed
            if zombie.phase == "insert" and not wrote_log and fault in (None, "insert delayed"):
                yield f"the old writer {label}", slip, after._replace(zombie=then)
            elif not bounds.rules.fenced_commits and fault is None:
                yield f"the old writer {label}", None, after._replace(zombie=then)
        back = Writer() if bounds.rules.start_anew_on_return else zombie
        returned = state._replace(owner=back, zombie=None)
        yield "the partition comes back to the old writer", "return", returned
    for flight in dict.fromkeys(state.flights):
        flights = list(state.flights)
        flights.remove(flight)
        gone = state._replace(flights=tuple(flights))
        yield "a late insert dies", None, gone
        if not _is_refused(state, bounds, flight.rows):
            after = _store(gone, flight.token, flight.rows)
            yield f"a late insert of {_names(flight.rows)} arrives", None, after


_WriterStep = tuple[str, str | None, State, Writer | None]


def _writer_steps(state: State, bounds: Bounds, writer: Writer) -> Iterator[_WriterStep]:
    if writer.phase == "start":
        yield _recovered(state, bounds)
    elif writer.phase == "poll":
        yield from _poll(state, bounds, writer)
    elif writer.phase == "insert":
        yield from _insert(state, bounds, writer)
    else:
        yield from _finish(state, bounds, writer)


def _recovered(state: State, bounds: Bounds) -> _WriterStep:
    offset, plan, last, _ = state.committed
    now = state.incarnation
    known = last
    if plan is not None and bounds.rules.plan_names_incarnation:
        known = plan.incarnation
    if bounds.rules.notice_new_topic and known not in (None, now):
        then = Writer("poll", _beginning(state, bounds), incarnation=now)
        return "starts, and finds another topic", None, _go_back(state), then
    if plan is None:
        return "starts", None, state, Writer("poll", offset, None, last, incarnation=now)
    if bounds.rules.report_deleted_of_plan and plan.start < state.first:
        state = _report(state, range(plan.start, min(state.first, plan.end + 1)))
    end = min(len(state.logs[-1]), plan.end + 1)
    rows = tuple((now, at) for at in range(max(plan.start, state.first), end))
    doubt = bounds.rules.cut_waits == "for all inserts"
    then = Writer("insert", offset, plan, last, rows, doubt, now)
    return "starts, and finds a plan", None, state, then


def _poll(state: State, bounds: Bounds, writer: Writer) -> Iterator[_WriterStep]:
    known = writer.incarnation if bounds.rules.plan_names_incarnation else writer.last
    if bounds.rules.notice_new_topic and known not in (None, state.incarnation):
        anew = Writer("poll", _beginning(state, bounds), incarnation=state.incarnation)
        yield "finds another topic", None, _go_back(state), anew
        return
    start = max(writer.offset, state.first)
    for end in range(start, min(len(state.logs[-1]), start + bounds.batch_max)):
        plan = Plan(state.incarnation, start, end)
        rows = tuple((state.incarnation, at) for at in range(start, end + 1))
        then = writer._replace(phase="insert", plan=plan, rows=rows, doubt=False)
        after = state
        if bounds.rules.report_deleted:
            after = _report(state, range(writer.offset, start))
        if not bounds.rules.plan_first:
            yield f"takes offsets {start}..{end}", None, after, then
            continue
        if not bounds.rules.commit_after_insert:
            committed = Committed(end + 1, None, state.incarnation, state.incarnation)
            after = after._replace(committed=committed)
            yield f"commits {end + 1}, then takes {start}..{end}", None, after, then
            continue
        after = after._replace(committed=Committed(start, plan, writer.last, state.incarnation))
        yield f"commits the plan {start}..{end}", None, after, then
        label = f"commits the plan {start}..{end}, but the answer is lost"
        yield label, "commit answer lost", after, writer


def _insert(state: State, bounds: Bounds, writer: Writer) -> Iterator[_WriterStep]:
    work = Work(state, bounds, writer)
    if not work.rows:
        yield "has carried out its plan", None, state, writer._replace(phase="finish")
        return
    if len(work.rows) == 1 and work.rows[0][1] in work.plan.buried:
        yield from _bury(state, bounds, writer, work)
        return
    names, token = _names(work.rows), work.token(bounds)
    if _is_refused(state, bounds, work.rows):
        if bounds.rules.cut_refused:
            yield from _cut(state, bounds, writer, work)
    else:
        stored = _store(state, token, work.rows)
        then = writer._replace(plan=work.done(), doubt=False)
        yield f"inserts {names}", None, stored, then
        doubtful = writer._replace(doubt=True)
        yield f"inserts {names}, but the answer is lost", "insert answer lost", stored, doubtful
        again = "another misjudged refusal"
        fault = again if state.misjudged else "misjudged refusal"
        for label, _, after, cut in _cut(state._replace(misjudged=True), bounds, writer, work):
            yield f"{label}, refused though it is good", fault, after, cut
    flights = tuple(sorted((*state.flights, Insert(token, work.rows))))
    late = state._replace(flights=flights)
    label = f"sends an insert of {names} and sees no answer"
    yield label, "insert delayed", late, writer._replace(doubt=True)


def _cut(state: State, bounds: Bounds, writer: Writer, work: Work) -> Iterator[_WriterStep]:
    """The insert was refused for its data."""
    if writer.doubt and bounds.rules.cut_waits != "for nothing":
        if not state.flights:
            over = writer._replace(doubt=False)
            yield f"waits, then inserts {_names(work.rows)} once more", None, state, over
        return
    plan = work.cut()
    then = writer._replace(plan=plan, doubt=False)
    what = "decides to bury" if len(work.rows) == 1 else "cuts"
    after = state
    if bounds.rules.cut_committed_first and bounds.rules.plan_first:
        after = _commit_plan(state, writer, plan)
    yield f"{what} {_names(work.rows)}", None, after, then


def _bury(state: State, bounds: Bounds, writer: Writer, work: Work) -> Iterator[_WriterStep]:
    done = work.done()
    then = writer._replace(plan=done)
    names = _names(work.rows)
    dead = state._replace(dead=state.dead | set(work.rows))
    passed = _commit_plan(dead, writer, done)
    yield f"appends the dead letter {names} and passes it", None, passed, then
    yield f"appends the dead letter {names} only", "dead letter answer lost", dead, writer
    if not bounds.rules.bury_before_passing:
        skipped = _commit_plan(state, writer, done)
        yield f"passes {names}: the dead-letter topic is down", None, skipped, then


def _finish(state: State, bounds: Bounds, writer: Writer) -> Iterator[_WriterStep]:
    assert writer.plan is not None
    rows, end = len(_kept(state, bounds, writer.rows)), writer.plan.end + 1
    named = bounds.rules.plan_names_incarnation and writer.rows
    last = writer.rows[-1][0] if named else writer.incarnation
    then = Writer("poll", end, None, last, incarnation=writer.incarnation)
    counted = state._replace(counted=state.counted + rows)
    passed = counted._replace(committed=Committed(end, None, last, writer.plan.incarnation))
    yield f"commits {end}", None, passed, then
    if not bounds.rules.count_with_commit:
        yield f"counts {rows} rows; the commit is lost", "commit answer lost", counted, writer


def _beginning(state: State, bounds: Bounds) -> int:
    """Where a topic made anew begins; from 0 on, deleted records are told with the next plan."""
    return 0 if bounds.rules.report_deleted_of_plan else state.first


def _go_back(state: State) -> State:
    """The loss of what stood in another incarnation is told."""
    reported = set(state.reported)
    for incarnation, log in enumerate(state.logs[:-1]):
        reported |= {(incarnation, offset) for offset in range(len(log))}
    return state._replace(reported=frozenset(reported))


def _report(state: State, offsets: range) -> State:
    lost = {(state.incarnation, offset) for offset in offsets}
    return state._replace(reported=state.reported | lost)


def _commit_plan(state: State, writer: Writer, plan: Plan) -> State:
    committed = Committed(plan.start, plan, writer.last, plan.incarnation)
    return state._replace(committed=committed)


def _kept(state: State, bounds: Bounds, rows: tuple[Place, ...]) -> tuple[Place, ...]:
    """Those of *rows* that repeat nothing."""
    if not bounds.rules.drop_repeats:
        return rows
    by_tenant = bounds.rules.identity_names_tenant
    return tuple(
        row for row in rows if not is_repeat(state, row, bounds.window, by_tenant=by_tenant)
    )


def _is_refused(state: State, bounds: Bounds, rows: tuple[Place, ...]) -> bool:
    return any(
        state.logs[incarnation][offset].request in bounds.poison for incarnation, offset in rows
    )


def _store(state: State, token: Token, rows: tuple[Place, ...]) -> State:
    """ClickHouse takes an insert, or drops it because it knows the token."""
    if token in state.tokens:
        swallowed = state.swallowed or not state.reported.issuperset(set(rows) - set(state.stored))
        return state._replace(swallowed=swallowed)
    stored = tuple(sorted((*state.stored, *rows)))
    return state._replace(stored=stored, tokens=state.tokens | {token})


def _names(rows: tuple[Place, ...]) -> str:
    return ", ".join(str(offset) for _incarnation, offset in rows)
