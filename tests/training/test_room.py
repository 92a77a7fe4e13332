"""A run writes no bundle into a root that is full, and says so before its long work where it can."""

import os

import pytest
from planted_lake import fill, planted

from matinee.bundle.manifest import list_versions
from matinee.core.clock import ManualClock
from matinee.core.errors import OutOfRoom
from matinee.core.settings import BudgetSettings
from matinee.training.run import Request, train

MEGABYTE = 1_000_000
BUDGET = BudgetSettings(data_megabytes=50, reserve_megabytes=0)


def fill_up(home):
    with (home.data / "ballast").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 50 * MEGABYTE)


@pytest.fixture
def bounded(settings):
    return settings.model_copy(update={"budget": BUDGET})


@pytest.mark.parametrize("full_at", ["taking a snapshot of the lake", "checking the data"])
def test_a_root_that_fills_up_during_a_run_gets_no_bundle(full_at, bounded, home, lake):
    fill(lake, planted())
    clock = ManualClock()

    def progress(what, *_):
        clock.sleep(60)
        if what == full_at:
            fill_up(home)

    popularity = Request(models=("popularity",))
    with pytest.raises(OutOfRoom, match="root data takes") as refused:
        train(popularity, settings=bounded, home=home, lake=lake, clock=clock, progress=progress)
    assert "the same command again" in refused.value.remedy
    assert list_versions(home.bundles) == []
    (home.data / "ballast").unlink()
    clock.sleep(60)
    report = train(popularity, settings=bounded, home=home, lake=lake, clock=clock, progress=lambda *_: None)
    assert list_versions(home.bundles) == [report.bundle]


def test_a_run_in_a_full_root_does_not_begin(bounded, home, lake):
    fill_up(home)
    begun = []
    with pytest.raises(OutOfRoom):
        train(
            Request(models=("popularity",)),
            settings=bounded,
            home=home,
            lake=lake,
            clock=ManualClock(),
            progress=lambda what, *_: begun.append(what),
        )
    assert begun == []
