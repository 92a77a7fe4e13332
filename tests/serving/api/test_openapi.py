"""Whatever the OpenAPI document allows is answered as it says, and whatever it forbids is refused."""

from collections.abc import Iterator

import pytest
import schemathesis
from api_samples import document, published, started
from hypothesis import HealthCheck, settings
from serving_samples import N_ITEMS, SNAPSHOT_END, act, new_home

from matinee.history.lmdb import LmdbHistory

KEY = "the key"


class Application:
    """Stands in for the API and its key while tests are collected: neither is there yet."""

    async def __call__(self, scope, receive, send) -> None:
        headers = [(name, self.key if value == KEY.encode() else value) for name, value in scope.get("headers", ())]
        await self.api({**scope, "headers": headers}, receive, send)


application = Application()
schema = schemathesis.openapi.from_dict(document())
schema.app = application
refusals = schema.config.checks.negative_data_rejection.expected_statuses
schema.config.checks.negative_data_rejection.expected_statuses = [*refusals, "413", "414", "431"]


@schema.auth()
class Key:
    """Every request has the key, but for those that a check sends without."""

    def get(self, case: schemathesis.Case, context: schemathesis.AuthContext) -> str:
        return KEY

    def set(self, case: schemathesis.Case, data: str, context: schemathesis.AuthContext) -> None:
        case.headers["X-Api-Key"] = data


def order_years(case: schemathesis.Case) -> None:
    """The one rule that JSON Schema cannot say: `year_from` is not after `year_to`."""
    for part in (case.query, case.body):
        if isinstance(part, dict):
            years = part.get("year_from"), part.get("year_to")
            if all(str(year).removesuffix(".0").isdigit() for year in years):
                part["year_from"], part["year_to"] = sorted(years, key=float)


@pytest.fixture(scope="module", autouse=True)
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    home = new_home(tmp_path_factory.mktemp("openapi"))
    with LmdbHistory(home.data / "history", map_bytes=1 << 24) as history:
        act(history, "u002", ["a+4", "a+6"], position=SNAPSHOT_END)
    published(home, items=["dark+city+1998", "m*a*s*h+1970", *(f"a+{i}" for i in range(2, N_ITEMS))])
    with started(home) as (api, key):
        application.api, application.key = api, key.encode()
        yield


@schema.parametrize()
@settings(max_examples=25, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_operation_keeps_to_the_document(case: schemathesis.Case):
    order_years(case)
    case.call_and_validate()
