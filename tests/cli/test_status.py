"""`matinee status`: sizes, budgets, growth and days left, for people and programs."""

import json

from matinee.core.clock import DAY, SystemClock


def test_status_tells_sizes_budgets_growth_and_days_left(matinee):
    matinee.environment |= {"MATINEE_BUDGET__DATA_MEGABYTES": "3", "MATINEE_BUDGET__RESERVE_MEGABYTES": "0"}
    first = matinee.json("status")["roots"]
    assert set(first) == {"data", "logs", "run"}
    assert first["data"]["growth_bytes_per_day"] is None  # nothing to compare with yet
    assert first["data"]["budget_bytes"] == 3_000_000

    two_days_ago = SystemClock().now_us() - 2 * DAY
    sizes = {"format_version": 1, "samples": [{"at_us": two_days_ago, "data": 0, "logs": 0, "run": 0}]}
    (matinee.home / "data" / "sizes.json").write_text(json.dumps(sizes))
    (matinee.home / "data" / "ballast").write_bytes(b"x" * 1_000_000)
    data = matinee.json("status")["roots"]["data"]
    assert 1_000_000 <= data["bytes"] < 1_100_000
    assert abs(data["growth_bytes_per_day"] - data["bytes"] / 2) < 1_000
    assert abs(data["days_left"] - data["left_bytes"] / data["growth_bytes_per_day"]) < 1e-6
    assert data["left_bytes"] == 3_000_000 - data["bytes"]
    assert data["state"] == "ok"

    (matinee.home / "data" / "ballast").write_bytes(b"x" * 3_000_000)
    assert matinee.json("status")["roots"]["data"]["state"] == "full"
    shown = matinee("status").stdout
    assert "full" in shown
    assert "days left" in shown
