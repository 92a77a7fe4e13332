"""What the API takes and gives, as it stands in the OpenAPI document."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.config import JsonDict

from matinee.bundle.open import Bundle
from matinee.core.ids import ID_PATTERN
from matinee.serving.answer import Unexplained
from matinee.serving.api.problems import Problem
from matinee.serving.filters import Filter, unknown_genres
from matinee.serving.request import DEFAULT_N, MAX_N

MAX_USERS = 100
"""Users in one request."""
MAX_EXCLUDED = 1_000
MAX_EXCLUDED_IN_QUERY = 50
"""More would hardly fit into a query; a body takes them."""
MAX_GENRES = 20
MAX_SESSION = 200
MAX_PREDICTED_ITEMS = 100
FIRST_YEAR, LAST_YEAR = 1, 9_999

_ID = rf"^{ID_PATTERN}$"
Id = Annotated[str, Field(pattern=_ID)]
User = Annotated[str, Field(pattern=_ID, description="The user's id.", examples=["u001"])]
Item = Annotated[str, Field(pattern=_ID, description="The item's id.", examples=["dark+city+1998"])]
Genre = Annotated[str, Field(min_length=1, max_length=100)]
Year = Annotated[int, Field(ge=FIRST_YEAR, le=LAST_YEAR)]
_Diversity = Annotated[float, Field(ge=0, le=1)]
_DIVERSITY = "0 (by score alone) to 1 (as unlike each other as can be); else the configured one."
_N = Annotated[int, Field(ge=1, le=MAX_N, description="How many items; fewer come only where there are no more.")]


def _whole(value: object) -> object:
    """JSON knows one kind of number: 20.0 is 20."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _never_null(schema: JsonDict) -> None:
    """A query has no way of saying null: what is not given is left out."""
    either = schema.pop("anyOf")
    assert isinstance(either, list)
    assert isinstance(either[0], dict)
    schema.update(either[0])


class _Taken(BaseModel):
    """A request. What it does not have is refused by name, and nothing is taken for what it is not."""

    model_config = ConfigDict(extra="forbid", strict=True)


class _Asked(BaseModel):
    """Query parameters. They are text, so that numbers are read from it; names that are not here are refused."""

    model_config = ConfigDict(extra="forbid")


class NoParameters(_Asked):
    """An operation without parameters in its query."""


class _Conditions(BaseModel):
    """What items must be like; the fields are those of who inherits."""

    genre: list[Genre]
    not_genre: list[Genre]
    year_from: Year | None
    year_to: Year | None

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        first, last = self.year_from, self.year_to
        if first is not None and last is not None and first > last:
            raise ValueError(f"year_from ({first}) comes after year_to ({last})")
        return self

    def filter(self) -> Filter | None:
        """The conditions, or nothing where there are none."""
        found = Filter(tuple(self.genre), tuple(self.not_genre), self.year_from, self.year_to)
        return None if found == Filter() else found

    def unknown_genres(self, bundle: Bundle) -> list[str]:
        """The genres of the request that the catalogue does not have."""
        return list(unknown_genres(self.filter() or Filter(), bundle.attributes))


class Where(_Asked, _Conditions):
    """What items must be like, as query parameters."""

    genre: list[Genre] = Field([], max_length=MAX_GENRES, description="At least one of these; repeat to name more.")
    not_genre: list[Genre] = Field([], max_length=MAX_GENRES, description="None of these.")
    year_from: Year | None = Field(
        None, description="The first year an item may be from.", json_schema_extra=_never_null
    )
    year_to: Year | None = Field(
        None, description="The last year; not before `year_from`.", json_schema_extra=_never_null
    )


class RecommendationQuery(Where):
    """What may be said of a user's recommendations, as query parameters."""

    n: _N = DEFAULT_N
    exclude: list[Id] = Field(
        [], max_length=MAX_EXCLUDED_IN_QUERY, description="Items not to show; repeat to name more."
    )
    include_seen: bool = Field(False, description="Whether to show what the user has seen, too.")
    diversity: _Diversity | None = Field(None, description=_DIVERSITY, json_schema_extra=_never_null)
    explain: bool = Field(False, description="Whether to say for each item which liked items speak for it.")


class TrendingQuery(Where):
    """What may be said of what is popular, as query parameters."""

    by: Literal["overall", "segment", "genre"] = Field(
        "overall", description="One list of all, or one for each segment of users, or one for each genre."
    )
    n: _N = DEFAULT_N


class SimilarQuery(Where):
    """What may be said of similar items, as query parameters."""

    n: _N = DEFAULT_N


class HistoryQuery(_Asked):
    """How much of a history is wanted."""

    n: int = Field(50, ge=1, le=1_000, description="How many items.")


class Options(_Taken, _Conditions):
    """What may be said of recommendations, in a body."""

    n: Annotated[_N, BeforeValidator(_whole)] = DEFAULT_N
    exclude: list[Id] = Field([], max_length=MAX_EXCLUDED, description="Items not to show.")
    include_seen: bool = Field(False, description="Whether to show what was seen, too.")
    genre: list[Genre] = Field([], max_length=MAX_GENRES, description="At least one of these.")
    not_genre: list[Genre] = Field([], max_length=MAX_GENRES, description="None of these.")
    year_from: Annotated[Year, BeforeValidator(_whole)] | None = Field(
        None, description="The first year an item may be from."
    )
    year_to: Annotated[Year, BeforeValidator(_whole)] | None = Field(
        None, description="The last year; not before `year_from`."
    )
    diversity: _Diversity | None = Field(None, description=_DIVERSITY)
    explain: bool = Field(False, description="Whether to say for each item which liked items speak for it.")


class UsersRequest(Options):
    """Recommendations for several users, under the same conditions."""

    users: list[str] = Field(
        min_length=1,
        max_length=MAX_USERS,
        description="Ids of users. One that cannot be an id fails alone.",
        examples=[["u001", "u002"]],
    )


class SessionRequest(Options):
    """Recommendations for somebody of whom only these items are known."""

    items: list[Id] = Field(
        min_length=1,
        max_length=MAX_SESSION,
        description="The items that the session has met, newest first.",
        examples=[["dark+city+1998", "m*a*s*h+1970"]],
    )


_Kind = Literal["rating", "score"]


class PredictionRequest(_Taken):
    """Whose liking of what is to be predicted: every user with every item."""

    users: list[Id] = Field(min_length=1, max_length=MAX_USERS, description="Ids of users.", examples=[["u001"]])
    items: list[Id] = Field(
        min_length=1, max_length=MAX_PREDICTED_ITEMS, description="Ids of items.", examples=[["dark+city+1998"]]
    )
    kind: _Kind | None = Field(
        None, description="What to predict; else ratings where people rate, and scores where they do not."
    )


class Answered(BaseModel):
    """What every answer says of itself, in its headers too."""

    request_id: str = Field(description="The id of this answer; `X-Request-Id`. The log knows it.")
    model_version: str = Field(description="The bundle that it comes from; `X-Model-Version`.")
    step: str = Field(
        description="The step of the fallback chain that answered (`X-Matinee-Step`): `personal`, `folded_in`, "
        "`popular_in_segment` or `popular`; `mixed` for several users, `none` where nothing was recommended."
    )


class Named(BaseModel):
    """An item."""

    item: str = Field(description="The item's id.")
    title: str | None = Field(description="Its title, where it is known.")


class Scored(Named):
    """An item with a score."""

    score: float | None = Field(
        description="The model's score: comparable within one answer, and no probability. None for what is popular."
    )


class Recommended(Scored):
    """A recommended item."""

    because: list[Named] = Field(
        description="The liked items that speak for it, strongest first; empty unless `explain` was asked for. "
        "Where it was and could not be answered, `unexplained` says why."
    )


_UNEXPLAINED = (
    "Why `because` is empty although `explain` was asked for: `history`, what the user did lately cannot be read "
    "now; `busy`, there was no time for it; `model`, the bundle's model cannot tell; `error`, it failed, and was "
    "logged. None where all was looked at: an empty `because` then says that no liked item speaks for this one."
)


class Recommendations(Answered):
    """Recommendations, best first."""

    user: str | None = Field(description="Whose they are; none for an anonymous session.")
    arm: str = Field(description="The arm of the release that the user is in.")
    items: list[Recommended]
    unknown_genres: list[str] = Field(description="Genres of the request that the catalogue does not have.")
    unknown_items: list[str] = Field(description="Items of the session that the catalogue does not have.")
    unexplained: Unexplained | None = Field(description=_UNEXPLAINED)


class UserResult(BaseModel):
    """What came of one user of several: either recommendations or a problem."""

    user: str
    recommendations: Recommendations | None
    problem: Problem | None


class UsersResult(Answered):
    """What came of several users, in the order of the request."""

    results: list[UserResult]


class ItemAnswer(Named, Answered):
    """What is known of an item."""

    genres: list[str]
    year: int | None = Field(description="The year it came out.")
    minutes: float = Field(description="Its length; the catalogue's median where it is not known.")
    age_limit: int | None = Field(description="The least age in years of who may be shown it.")
    available_from: datetime | None = Field(description="When it begins to be recommended.")
    available_until: datetime | None = Field(description="When it ends to be.")
    interactions: int = Field(description="How many users had met it when the model was made.")
    rank: int = Field(description="Its place in the order of popularity, from 1.")


class SimilarItems(Answered):
    """The items most like one, most like it first."""

    item: str
    items: list[Scored] = Field(description="`score` is the cosine of the two items' factors, -1 to 1.")
    unknown_genres: list[str]


class Prediction(BaseModel):
    """What is predicted for one user."""

    user: str
    model_version: str = Field(description="The bundle of the user's arm.")
    kind: _Kind = Field(
        description="`rating`: the rating that the user would give, within the scale of the ratings there are. "
        "`score`: what the model orders its recommendations by; it is no rating."
    )
    based_on: Literal["history", "seen", "nothing", "top"] = Field(
        description="`history`: what the user rated or did lately. `seen`: which items the user had met when the "
        "model was made, each counting the same. `nothing`: the mean user. `top`: the bundle's list of the user's "
        "best items; the model cannot score others between two trainings."
    )
    values: list[float | None] = Field(description="Aligned with `items`; none where nothing can be said.")


class Predictions(Answered):
    """Predictions for every user and item."""

    items: list[str] = Field(description="The items of the request.")
    predictions: list[Prediction] = Field(description="One for each user of the request, in its order.")
    unknown_items: list[str] = Field(description="Items of the request that the catalogue does not have.")


class Met(Named):
    """An item that a user has met."""

    last: datetime | None = Field(description="When last; none where it is not known.")
    minutes: int | None = Field(description="Distinct minutes watched lately; none where only the model knows.")
    rating: float | None = Field(description="The latest rating.")


class HistoryAnswer(Answered):
    """What a user did: what is known live, newest first, then what was known when the model was made."""

    user: str
    live: bool = Field(description="Whether the live history could be read. If not, only the model's part is here.")
    total: int = Field(description="How many items there are.")
    items: list[Met]


class Group(BaseModel):
    """What is popular in one group."""

    name: str | None = Field(description="The segment or genre; none for all.")
    items: list[Named]


class TrendingAnswer(Answered):
    """What most people liked when the model was made, most popular first."""

    by: Literal["overall", "segment", "genre"]
    groups: list[Group]
    unknown_genres: list[str]
