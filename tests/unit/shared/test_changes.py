"""What differs between two states of something."""

from dataclasses import dataclass

from shared.changes import changes_of


@dataclass(frozen=True)
class Rates:
    requests: int | None
    items: int | None = None


def test_what_differs_is_told_from_what_to_what() -> None:
    before = {"name": "Shop", "level": 2, "networks": ["::1/128"], "limits": Rates(60)}
    after = {"name": "Till", "level": 2, "networks": [], "limits": Rates(None, 5)}

    assert changes_of(before, after) == {
        "name": {"before": "Shop", "after": "Till"},
        "networks": {"before": ["::1/128"], "after": []},
        "limits": {
            "before": {"requests": 60, "items": None},
            "after": {"requests": None, "items": 5},
        },
    }


def test_of_a_set_it_is_told_what_was_added_and_removed() -> None:
    changes = changes_of({"members": {"a", "b"}}, {"members": {"b", "d", "c"}})

    assert changes == {"members": {"added": ["c", "d"], "removed": ["a"]}}


def test_S65_of_a_document_it_is_told_that_it_changed_and_nothing_of_it() -> None:
    before = {"settings": {"dsn": "postgres://ada:sesame@db"}}

    assert changes_of(before, {"settings": {"dsn": "postgres://ada:other@db"}}) == {"settings": {}}
    assert changes_of(before, before) == {}
