"""A search as a picture: what each trial reached, and which hyperparameters mattered."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from matinee.training.search import SearchReport

_TRIAL, _BEST = "#0072B2", "#D55E00"
"""Blue and vermilion of Okabe and Ito's palette."""


def draw_search(report: SearchReport, folder: Path) -> list[Path]:
    """Write `search.png` and `search.svg` into a folder: the trials, the best so far, and what mattered.

    Returns:
        What was written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    panels = 2 if report.importance else 1
    figure = Figure(figsize=(5.6 * panels, 4.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    _history(figure.add_subplot(1, panels, 1), report)
    if report.importance:
        _importance(figure.add_subplot(1, panels, 2), report.importance)
    figure.suptitle(f"Search for hyperparameters of {report.model}", fontsize=11)
    paths = [folder / "search.png", folder / "search.svg"]
    for path in paths:
        figure.savefig(path)
    return paths


def _history(axes: Axes, report: SearchReport) -> None:
    complete = [trial for trial in report.trials if trial["state"] == "complete"]
    number, value = ([trial[key] for trial in complete] for key in ("number", "value"))
    best = (np.minimum if report.metric == "rmse" else np.maximum).accumulate(value)
    axes.scatter(number, value, s=18, color=_TRIAL, label="a trial")
    axes.step(number, best, where="post", color=_BEST, label="the best so far")
    axes.set(xlabel="trial", ylabel=f"{report.metric}, mean of the inner folds")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False)


def _importance(axes: Axes, importance: dict[str, float]) -> None:
    names = sorted(importance, key=importance.__getitem__)
    axes.barh(names, [importance[name] for name in names], color=_TRIAL)
    axes.set(xlabel="importance (share of variance, PED-ANOVA)")
