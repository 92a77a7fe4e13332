"""A comparison as a table, on the terminal and in Markdown."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from rich import box
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from matinee.evaluation.comparison import Comparison, Row

WIDE = 150
"""Columns of a terminal that has room for the deviations."""


def duration(seconds: float) -> str:
    """Seconds to two digits or three, in milliseconds where they are few."""
    return f"{seconds * 1e3:.2g} ms" if seconds < 0.0995 else f"{seconds:,.{2 if seconds < 10 else 0}f} s"


def size(octets: float) -> str:
    """Bytes to three digits or so, in kB, MB or GB."""
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if octets >= unit:
            return f"{octets / unit:.{1 if octets < 100 * unit else 0}f} {name}"
    return f"{octets / 1e3:.{1 if octets < 1e5 else 0}f} kB"


@dataclass(frozen=True, slots=True)
class Column:
    """How a figure is shown: title, title where there is little room, which way is better (1 up, −1 down)."""

    title: str
    brief: str
    show: Callable[[float], str] | None = None
    better: int = 0

    def text(self, value: float, *, wide: bool) -> str:
        """The figure; of what has no unit, four digits or, where there is little room, three."""
        return self.show(value) if self.show else f"{value:.{4 if wide else 3}f}"


COLUMNS: Mapping[str, Column] = {
    "rmse": Column("RMSE", "RMSE", better=-1),
    "mae": Column("MAE", "MAE", better=-1),
    "ndcg@10": Column("nDCG@10", "nDCG", better=1),
    "recall@20": Column("recall@20", "recall", better=1),
    "coverage@10": Column("coverage@10", "cover", better=1),
    "fit_seconds": Column("fit", "fit", duration),
    "seconds_per_1000_answers": Column("1,000 answers", "answer", duration),
    "peak_bytes": Column("peak memory", "memory", size),
    "state_bytes": Column("on disk", "disk", size),
}
"""The columns, by figure. Deviations are shown of those of which more or less is better."""


def best_first(rows: "Iterable[Row]") -> "list[Row]":
    """By nDCG, or by RMSE where nothing was ranked; those without figures last."""

    def place(row: "Row") -> float:
        figures = row.figures
        return -figures["ndcg@10"].mean if "ndcg@10" in figures else figures["rmse"].mean if figures else inf

    return sorted(rows, key=place)


def table(rows: "list[Row]", *, wide: bool) -> Table:
    """The rows for a terminal, the best accuracies bold; `wide` with deviations."""
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, int(wide), 0, 0), pad_edge=False, show_edge=False)
    shown.add_column("model", no_wrap=True)
    for column in COLUMNS.values():
        shown.add_column(column.title if wide else column.brief, justify="right", no_wrap=True)
    for row, cells in zip(rows, _cells(rows, "[bold]{}[/]", wide=wide), strict=True):
        shown.add_row(f"[yellow]{escape(row.model)}[/]" if row.refused else escape(row.model), *cells)
    return shown


def markdown(comparison: "Comparison") -> str:
    """The comparison as a page: the table, the reasons of who has no figures, nDCG's intervals, what was done."""
    rows, options = best_first(comparison.rows), comparison.options
    titles = ["model", *(column.title for column in COLUMNS.values())]
    lines = [
        f"# Models on {comparison.dataset}",
        "",
        _data(comparison),
        "",
        _line(titles),
        "|---|" + "---:|" * len(COLUMNS),
    ]
    cells = _cells(rows, "**{}**", wide=True)
    lines += [_line([row.model, *figures]) for row, figures in zip(rows, cells, strict=True)]
    lines += ["", note(comparison, wide=True), ""]
    intervals = [(row.model, row.ndcg_interval(options.resamples, options.seed)) for row in rows]
    if any(interval for _, interval in intervals):
        lines += ["| model | nDCG@10, users alike | 95 % over users |", "|---|---:|---:|"]
    lines += [_line([name, f"{i.mean:.4f}", f"{i.low:.4f} to {i.high:.4f}"]) for name, i in intervals if i]
    for kind in comparison.groups:
        lines += _subgroups(comparison, rows, kind)
    refused = [f"- {row.model}: {row.refused}" for row in rows if row.refused]
    if refused:
        lines += ["", "Without figures:", "", *refused]
    return "\n".join(lines) + "\n"


def _subgroups(comparison: "Comparison", rows: "list[Row]", kind: str) -> list[str]:
    """A table of each figure within each group that has users, as lines of Markdown; nothing where none has."""
    groups = comparison.groups[kind]
    found = {row.model: row.by_group(groups) for row in rows}
    lines: list[str] = []
    for figure, count, title in (("ndcg@10", "users", "nDCG@10"), ("rmse", "rated_users", "users' RMSE")):
        sizes = {
            name: int(of_group[count])
            for each in found.values()
            for name, of_group in each.items()
            if count in of_group
        }
        names = [name for name in groups.names if name in sizes]
        if not names:
            continue
        lines += ["", _line([f"{title} by {kind}", *(f"{name} ({sizes[name]:,})" for name in names)])]
        lines += ["|---|" + "---:|" * len(names)]
        lines += [
            _line([model, *(f"{each[name][figure]:.4f}" if figure in each.get(name, {}) else "" for name in names)])
            for model, each in found.items()
            if any(figure in of_group for of_group in each.values())
        ]
    return lines


def note(comparison: "Comparison", *, wide: bool) -> str:
    """What the figures of the table are."""
    deviations = " ± standard deviation" if wide else ""
    unranked = ""
    if not any("ndcg@10" in row.figures for row in comparison.rows):
        least = f"{comparison.options.positive_rating:g}"
        unranked = f"Lists are not judged: of what is held out, no rating reaches {least} (--positive-rating). "
    return unranked + (
        f"Mean{deviations} over {comparison.options.folds} folds; nDCG and coverage of lists of 10, recall of 20, "
        "which are the best of the whole catalogue without what the user had. Time is of one fit, and of 1,000 "
        "users' lists. Memory is by how much the model's process grew above program and data, at its highest over "
        "all folds. On disk are the arrays learnt, uncompressed."
    )


def _data(comparison: "Comparison") -> str:
    options = comparison.options
    return (
        f"{comparison.n_interactions:,} interactions of {comparison.n_users:,} users and {comparison.n_items:,} "
        f"items; seed {options.seed}, threads {options.threads}, liked from a rating of "
        f"{options.positive_rating:g} on."
    )


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _cells(rows: "list[Row]", strong: str, *, wide: bool) -> list[list[str]]:
    """The figures of each row as texts; the best of a column in `strong`."""
    figures = [row.figures for row in rows]
    lines: list[list[str]] = [[] for _ in rows]
    for name, column in COLUMNS.items():
        values = [column.better * found[name].mean for found in figures if name in found]
        for cells, found in zip(lines, figures, strict=True):
            if name not in found:
                cells.append("")
                continue
            figure = found[name]
            text = column.text(figure.mean, wide=wide)
            if wide and column.better:
                text += f" ± {column.text(figure.deviation, wide=True)}"
            best = column.better and len(values) > 1 and column.better * figure.mean == max(values)
            cells.append(strong.format(text) if best else text)
    return lines
