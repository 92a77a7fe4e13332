"""A comparison as a picture: accuracy against time, and memory as the size of what is drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, NullFormatter
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from matinee.evaluation.comparison import Comparison, Row
from matinee.models.registry import make

_PREDICTOR, _RANKER = "#0072B2", "#D55E00"
"""Blue and vermilion of Okabe and Ito's palette: told apart by colour-blind eyes, and by lightness in grey."""

_PANELS = (("rmse", "RMSE (lower is better)"), ("ndcg@10", "nDCG@10 (higher is better)"))
_LEAST_SECONDS = 1e-4
_SMALLEST, _LARGEST = 25.0, 1_000.0
"""Areas in square points; that between is proportional to memory."""
_DPI = 150
_DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
_AROUND = [(x * distance, y * distance) for distance in (1.0, 1.8, 2.8) for x, y in _DIRECTIONS]
"""Where a label may stand, seen from its point; the first are the best."""


def draw(comparison: Comparison, folder: Path) -> list[Path]:
    """Write `comparison.png` and `comparison.svg` into a folder.

    A panel for RMSE and one for nDCG@10, each as far as there are models that have it: across, the mean time of a
    fit in seconds, on a logarithmic scale; up, the mean over folds with its standard deviation as a line; as the
    area of the bubble, peak memory. Blue are models that predict ratings, vermilion those that only rank. Models
    that answer by lot are told of in a line below, since they would press the others together. The same figures
    give the same bytes with the same matplotlib.

    Returns:
        What was written; nothing where no model has figures.
    """
    lots = [row for row in comparison.rows if make(row.model).capabilities.by_lot]
    drawn = [row for row in comparison.rows if row not in lots]
    panels = [(key, label, _points(drawn, key)) for key, label in _PANELS]
    panels = [panel for panel in panels if panel[2]]
    if not panels:
        return []
    style = {"svg.hashsalt": "matinee", "svg.fonttype": "none", "font.size": 9.0}
    with rc_context(style):  # type: ignore[arg-type]  # its keys are a literal type of hundreds
        figure = Figure(figsize=(6.4 * len(panels) + 0.4, 5.4), dpi=_DPI, layout="constrained")
        figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)  # type: ignore[union-attr, call-arg]
        canvas = FigureCanvasAgg(figure)
        axes = [figure.add_subplot(1, len(panels), place + 1) for place in range(len(panels))]
        largest = max(point.memory for *_, points in panels for point in points)
        for panel, (key, label, points) in zip(axes, panels, strict=True):
            _scatter(panel, label, points, largest)
            _tell_of(panel, lots, key)
        _legend(figure, axes[0], [point for *_, points in panels for point in points], largest)
        figure.suptitle(_title(comparison), fontsize=11)
        canvas.draw()  # type: ignore[no-untyped-call]
        figure.set_layout_engine("none")  # labels are placed in what the layout has left
        for panel, (*_, points) in zip(axes, panels, strict=True):
            _label(panel, points, largest, canvas)
        folder.mkdir(parents=True, exist_ok=True)
        written = [folder / "comparison.png", folder / "comparison.svg"]
        figure.savefig(written[0], dpi=_DPI)
        figure.savefig(written[1], metadata={"Date": None})
    return written


@dataclass(frozen=True, slots=True)
class _Point:
    name: str
    seconds: float
    value: float
    deviation: float
    memory: float
    predicts: bool

    @property
    def colour(self) -> str:
        return _PREDICTOR if self.predicts else _RANKER


def _points(rows: Sequence[Row], key: str) -> list[_Point]:
    """The models that have that figure, the largest first, so that the small lie above."""
    points = [
        _Point(
            name=row.model,
            seconds=max(figures["fit_seconds"].mean, _LEAST_SECONDS),
            value=figures[key].mean,
            deviation=figures[key].deviation,
            memory=figures["peak_bytes"].mean if "peak_bytes" in figures else 0.0,
            predicts=make(row.model).capabilities.predicts_ratings,
        )
        for row in rows
        if key in (figures := row.figures)
    ]
    return sorted(points, key=lambda point: -point.memory)


def _tell_of(axes: Axes, rows: Sequence[Row], key: str) -> None:
    """Name models that are not drawn, with their figures."""
    told = [f"{row.model} ({row.figures[key].mean:.3f})" for row in rows if key in row.figures]
    if told:
        axes.set_title(f"not drawn: {', '.join(told)}", fontsize=8, loc="right", color="0.35")


def _area(memory: float, largest: float) -> float:
    return max(_SMALLEST, _LARGEST * memory / largest) if largest else _SMALLEST


def _scatter(axes: Axes, label: str, points: list[_Point], largest: float) -> None:
    # All limits first: what grows with each point is for a moment an axis without length, which divides by zero.
    axes.set_xscale("log")
    seconds = [point.seconds for point in points]
    room = max(1.5, (max(seconds) / min(seconds)) ** 0.2)  # a single moment would have no axis
    low, high = min(seconds) / room, max(seconds) * room
    axes.set_xlim(low, high)
    axes.set_ylim(*_reach(points))
    for point in points:
        axes.errorbar(point.seconds, point.value, yerr=point.deviation, color=point.colour, linewidth=1, zorder=2)
        axes.scatter(
            point.seconds,
            point.value,
            s=_area(point.memory, largest),
            color=point.colour,
            alpha=0.55,
            edgecolors="black",
            linewidths=0.7,
            zorder=3,
        )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{seconds:g}"))
    axes.xaxis.set_minor_formatter(FuncFormatter(_two_and_five) if high < 30 * low else NullFormatter())
    axes.set_xlabel("time of a fit, seconds (logarithmic)")
    axes.set_ylabel(label)
    axes.grid(visible=True, color="0.9", zorder=0)
    axes.spines[["top", "right"]].set_visible(False)


def _reach(points: list[_Point]) -> tuple[float, float]:
    """From below the least value to above the greatest, deviations among them."""
    low = min(point.value - point.deviation for point in points)
    high = max(point.value + point.deviation for point in points)
    room = 0.14 * (high - low) or max(0.05 * abs(high), 0.01)
    return low - room, high + room


def _two_and_five(seconds: float, _: int) -> str:
    return f"{seconds:g}" if f"{seconds:e}"[0] in "25" else ""


def _legend(figure: Figure, axes: Axes, points: list[_Point], largest: float) -> None:
    kinds = {"predicts ratings": _PREDICTOR, "only ranks": _RANKER}
    shown = {point.colour for point in points}
    handles: list[Any] = [
        axes.scatter([], [], s=60, color=colour, alpha=0.55, edgecolors="black", linewidths=0.7, label=name)
        for name, colour in kinds.items()
        if colour in shown
    ]
    handles += [
        axes.scatter([], [], s=_area(size, largest), color="white", edgecolors="black", linewidths=0.7,
                     label=f"{size / 1e6:,.0f} MB peak memory")
        for size in _round_sizes(largest)
    ]  # fmt: skip
    room = {"handlelength": 3.6, "borderpad": 1.8}
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, **room)


def _round_sizes(largest: float) -> list[float]:
    """Two sizes of 1, 2 or 5 times a power of ten: the largest that is drawn, and a fifth of it or so."""
    if largest < 1e6:
        return []
    power = 10.0 ** np.floor(np.log10(largest))
    top = float(max(step * power for step in (1, 2, 5) if step * power <= largest))
    return [top] if top < 5e6 else [top / 5, top]


def _title(comparison: Comparison) -> str:
    options = comparison.options
    return (
        f"{comparison.dataset}: {comparison.n_interactions:,} interactions, {options.folds} folds, "
        f"seed {options.seed}, {options.threads} thread{'s' if options.threads > 1 else ''}"
    )


def _label(axes: Axes, points: list[_Point], largest: float, canvas: FigureCanvasAgg) -> None:
    """Put each name beside its bubble, where it covers least of other names and bubbles."""
    centres = axes.transData.transform([(point.seconds, point.value) for point in points])
    per_point = axes.figure.dpi / 72
    radii = [np.sqrt(_area(point.memory, largest) / np.pi) * per_point for point in points]
    taken = [Bbox.from_extents(x - r, y - r, x + r, y + r) for (x, y), r in zip(centres, radii, strict=True)]
    for point, centre, radius in sorted(
        zip(points, centres, radii, strict=True), key=lambda entry: (entry[0].value, entry[0].name)
    ):
        text = axes.text(0, 0, point.name, fontsize=8.5, transform=None, ha="left", va="bottom", zorder=5)
        size = text.get_window_extent(canvas.get_renderer())  # type: ignore[no-untyped-call]
        boxes = [_beside(centre, radius, size, x, y, 4 * per_point) for x, y in _AROUND]
        room = axes.get_window_extent()
        costs = [_covered(box, taken, room) + 2 * step for step, box in enumerate(boxes)]
        best = boxes[int(np.argmin(costs))]
        taken.append(best)
        _place(axes, text, best, centre, far=int(np.argmin(costs)) >= len(_DIRECTIONS))


def _beside(centre: NDArray[np.float64], radius: float, size: Bbox, x: float, y: float, gap: float) -> Bbox:
    """The label's box in that direction from the bubble; steps beyond 1 are further away."""
    away = max(abs(x), abs(y))
    slant = 0.75 if x and y else 1.0
    reach = radius * slant + gap * (1 + 6 * (away - 1))
    middle = (
        centre[0] + np.sign(x) * (reach + size.width / 2),
        centre[1] + np.sign(y) * (reach + size.height / 2),
    )
    return Bbox.from_bounds(middle[0] - size.width / 2, middle[1] - size.height / 2, size.width, size.height)


def _covered(box: Bbox, taken: list[Bbox], room: Bbox) -> float:
    """Square pixels of the box on others, and ten times those outside the room."""
    within = Bbox.intersection(box, room)
    inside = within.width * within.height if within is not None else 0.0
    overlaps = [shared.width * shared.height for other in taken if (shared := Bbox.intersection(box, other))]
    return sum(overlaps) + 10 * (box.width * box.height - inside)


def _place(axes: Axes, text: Text, box: Bbox, centre: NDArray[np.float64], *, far: bool) -> None:
    """Fix the label to the data, and tie it to its bubble with a line where it stands apart."""
    back = axes.transData.inverted()
    text.set_transform(axes.transData)
    text.set_position(tuple(back.transform((box.x0, box.y0))))
    if far:
        middle = back.transform(((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2))
        start = back.transform(centre)
        axes.plot([start[0], middle[0]], [start[1], middle[1]], color="0.5", linewidth=0.6, zorder=1)
