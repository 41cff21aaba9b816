"""What differs between two states of something, as its event and the audit trail tell it."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import asdict, is_dataclass
from typing import Any

from shared.messaging.events import Changes


def changes_of(before: Mapping[str, Any], after: Mapping[str, Any]) -> Changes:
    """What of *before* is another value in *after*, as `{name: {"before": …, "after": …}}`.

    Of a set, what was `added` and `removed`. A document that people fill as they like (settings,
    a data source's configuration) may hold anything, secrets too: that it changed is told by an
    empty change, and nothing of what is in it.
    """
    return {
        name: _change(value, after[name]) for name, value in before.items() if value != after[name]
    }


def _change(before: Any, after: Any) -> dict[str, Any]:
    if isinstance(before, Mapping):
        return {}
    if isinstance(before, AbstractSet):
        return {
            "added": sorted(map(str, after - before)),
            "removed": sorted(map(str, before - after)),
        }
    return {"before": _plain(before), "after": _plain(after)}


def _plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
