"""Pictures of curves, as SVG and PNG. Draws without pyplot, so that nothing global is kept."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from metrics.run_files import MeasuredSeries, Point, better_is

# Colours that colour-blind people can tell apart (Okabe and Ito).
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c6d00")
_STYLE = {
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,  # names of files and tags are text, whatever is in them
    "svg.fonttype": "none",  # letters stay letters: smaller, and read by screen readers
    "svg.hashsalt": "report",  # the same curves give the same file
}


class _LogText(LogFormatter):
    """Labels of a logarithmic axis as plain numbers, where matplotlib would write formulas."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:.3g}" if super().__call__(x, pos) else ""


def style() -> Any:
    """Context manager: the look that all pictures share."""
    return matplotlib.rc_context(_STYLE)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of that many inches, not known to pyplot."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def to_svg(figure: Figure) -> bytes:
    """The figure as an SVG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def to_png(figure: Figure, dpi: int = 120) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def set_log_scale(axes: Axes) -> None:
    """A logarithmic y axis with plain numbers."""
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(_LogText())
    axes.yaxis.set_minor_formatter(_LogText())


def plot_metric(series: Sequence[MeasuredSeries]) -> bytes:
    """SVG of one result against kimg with the best value marked; one curve for each set of conditions."""
    with style():
        figure = new_figure(5.2, 3.0)
        axes = figure.add_subplot()
        for index, one in enumerate(series):
            color = COLORS[index % len(COLORS)]
            points = [p for p in one.points if p.kimg is not None]
            x, y = [p.kimg for p in points], [p.value for p in points]
            label = _conditions(one, series) if len(series) > 1 else None
            axes.plot(x, y, "-o", color=color, markersize=3.5, label=label)
            best = one.best
            if best is not None and best.kimg is not None:
                axes.plot([best.kimg], [best.value], "*", color=color, markersize=13, markeredgecolor="white")
                below = better_is(one.name) < 0
                left = best.kimg <= (min(x) + max(x)) / 2
                axes.annotate(
                    f"best {format_number(best.value)}",
                    (best.kimg, best.value),
                    textcoords="offset points",
                    xytext=(8 if left else -8, -13 if below else 6),
                    ha="left" if left else "right",
                    color=color,
                )
        axes.margins(x=0.08, y=0.2 if len(series) == 1 else 0.4)  # room for a legend
        if series:
            direction = {1: "\n(higher is better)", -1: "\n(lower is better)", 0: ""}[better_is(series[0].name)]
            axes.set_ylabel(f"{series[0].name}{direction}")
        _finish(axes, len(series) > 1)
        return to_svg(figure)


def _conditions(one: MeasuredSeries, among: Sequence[MeasuredSeries]) -> str:
    """The conditions in which curves of one picture differ."""
    differing = [k for k in one.conditions if len({repr(other.conditions[k]) for other in among}) > 1]
    told = []
    if "validation" in differing:
        told.append("held-out images" if one.conditions["validation"] else "training images")
        # Of other images there is another number, and their content is another.
        differing = [key for key in differing if key not in ("validation", "num_real", "dataset_hash")]
    return ", ".join([*told, *(f"{key} {str(one.conditions[key])[:12]}" for key in differing)])


def plot_stats(
    curves: Mapping[str, Sequence[Point]], log_scale: bool = False, band: bool = False, from_zero: bool = False
) -> bytes:
    """SVG of statistics against kimg.

    log_scale: of values, where one is positive; band: shade one standard deviation of the minibatches of a tick;
    from_zero: the axis begins at 0.
    """
    with style():
        figure = new_figure(5.2, 3.0)
        axes = figure.add_subplot()
        positive = False
        for index, (name, points) in enumerate(curves.items()):
            color = COLORS[index % len(COLORS)]
            x, mean, std = (np.array(column, float) for column in zip(*points, strict=True))
            few = np.isfinite(mean).sum() <= 30
            axes.plot(x, mean, "-", color=color, lw=1.4, marker="o" if few else None, markersize=3, label=name)
            if band and np.isfinite(std).any():
                axes.fill_between(x, mean - std, mean + std, color=color, alpha=0.12, lw=0)
            positive = positive or bool((mean[np.isfinite(mean)] > 0).any())
        if log_scale and positive:
            set_log_scale(axes)
        elif from_zero:
            axes.set_ylim(0, 1.05 * axes.get_ylim()[1])
        _finish(axes, True)
        return to_svg(figure)


def _finish(axes: Axes, legend: bool) -> None:
    axes.set_xlabel("kimg (thousands of training images shown)")
    if not axes.has_data():
        axes.text(0.5, 0.5, "no values", transform=axes.transAxes, ha="center")
    if legend and axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=True, framealpha=0.8, edgecolor="none", fontsize=8.5)


def format_number(value: float) -> str:
    """Four significant digits, no needless zeros."""
    return f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
