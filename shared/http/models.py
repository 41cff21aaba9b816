"""What requests and answers are made of: JSON in camelCase, with nothing unknown in it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, ClassVar, Final, Generic, Self, TypeVar
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from shared.errors import Invalid

PAGE_SIZE: Final = 20
PAGE_SIZE_MAX: Final = 100
# Deeper pages cost the database more than a person gets out of them: narrow the filter instead.
PAGE_MAX: Final = 10_000
SEARCH_CHARACTERS_MAX: Final = 200


def _without_nul(text: str) -> str:
    if "\x00" in text:
        raise ValueError("must not contain the character NUL")
    return text


# PostgreSQL keeps no NUL in text.
Text = Annotated[str, AfterValidator(_without_nul)]
Name = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_without_nul)]
Description = Annotated[str, Field(max_length=1_000), AfterValidator(_without_nul)]
Slug = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9][a-z0-9-]{0,62}$",
        description="lower-case letters, digits and hyphens, at most 63",
        examples=["production"],
    ),
]


class Body(BaseModel):
    """A request body: unknown fields are refused, types are taken as they are."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=False,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )


class Query(BaseModel):
    """Query parameters: texts that are turned into types; unknown ones are refused."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=False,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )


class View(BaseModel):
    """An answer, or a part of one."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)

    @classmethod
    def of(cls, row: Any) -> Self:
        """From a row whose columns are named like the fields."""
        return cls.model_validate(dict(row))


class Editable(View):
    """What can be edited: its version is also its ETag."""

    version: int = Field(description="counts changes; as `If-Match` it guards an edit")


class Versioned(Editable):
    """The same of what has an id of its own."""

    id: UUID
    created_at: datetime
    updated_at: datetime


class PageQuery(Query):
    """Which page of a list, in which order; subclasses name the columns that may be sorted by."""

    SORTS: ClassVar[Sequence[str]] = ("createdAt",)

    page: int = Field(1, ge=1, le=PAGE_MAX)
    limit: int = Field(PAGE_SIZE, ge=1, le=PAGE_SIZE_MAX)
    sort: str = Field(
        "-createdAt",
        max_length=64,
        description="a field to sort by, with a minus for descending order",
        examples=["-createdAt"],
    )
    search: Text | None = Field(None, max_length=SEARCH_CHARACTERS_MAX)

    @property
    def offset(self) -> int:
        """Rows before the page."""
        return (self.page - 1) * self.limit

    def order_by(self) -> str:
        """The SQL of the order: a column of the whitelist, then the id to make it total."""
        name = self.sort.removeprefix("-")
        if name not in self.SORTS:
            raise Invalid(f"sort by one of {', '.join(self.SORTS)}", field="sort")
        column = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
        direction = "DESC" if self.sort.startswith("-") else "ASC"
        return f"{column} {direction}, id {direction}"

    def like(self) -> str | None:
        """The search as a pattern of ILIKE, its own wildcards taken literally."""
        if not self.search:
            return None
        escaped = self.search.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        return f"%{escaped}%"


class PageMeta(View):
    """Where in the list a page stands."""

    page: int = Field(examples=[1])
    limit: int = Field(examples=[20])
    total: int = Field(description="entries in all", examples=[1])
    total_pages: int = Field(examples=[1])


V = TypeVar("V", bound=BaseModel)


class Page(View, Generic[V]):
    """One page of a list."""

    data: list[V]
    meta: PageMeta

    @classmethod
    def of_rows(cls, rows: Sequence[Any], view: type[View], query: PageQuery) -> Self:
        """From rows that carry the number of all of them as the column `total`."""
        total = int(rows[0]["total"]) if rows else 0
        return cls(
            data=[view.of(row) for row in rows],  # type: ignore[misc]
            meta=PageMeta(
                page=query.page,
                limit=query.limit,
                total=total,
                total_pages=-(-total // query.limit),
            ),
        )


class FieldProblem(View):
    """What is wrong with one field of a request."""

    field: str = Field(description="path of the field, or empty for the whole", examples=["email"])
    message: str = Field(examples=["not an e-mail address"])


class Problem(View):
    """An error, as RFC 9457 describes them."""

    type: str = Field("about:blank", examples=["about:blank"])
    title: str = Field(examples=["Bad Request"])
    status: int = Field(examples=[400])
    detail: str = Field(description="what is wrong, and what to do", examples=["unknown field"])
    instance: str = Field(description="path of the request", examples=["/api/v2/users"])
    request_id: str = Field(description="quote it when you ask for help")
    errors: list[FieldProblem] = Field(default_factory=list)


class Done(View):
    """That something was done, when there is nothing else to say."""

    message: str
