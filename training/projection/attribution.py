"""Was an image made by this generator? Distances after projection, of generated and of real images (section 5.1)."""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np


class Attribution(NamedTuple):
    """How well distances tell generated images from real ones.

    auc: chance that a random real image is farther from its projection than a random generated one (1/2 where equal).
    threshold: images nearer than that are called generated; accuracy: the mean of both groups' shares that are told
    right by it, the best that a threshold reaches on these very images.
    """

    auc: float
    threshold: float
    accuracy: float


def attribute(generated: np.ndarray, real: np.ndarray) -> Attribution:
    """From distances [n] and [m], n, m > 0 and finite."""
    fakes, reals = np.sort(np.asarray(generated, np.float64)), np.sort(np.asarray(real, np.float64))
    below = np.searchsorted(fakes, reals, side="left")
    ties = np.searchsorted(fakes, reals, side="right") - below
    auc = float((below + ties / 2).mean() / len(fakes))
    values = np.unique(np.concatenate([fakes, reals]))
    # Between neighbours, and beyond both ends: what calls everything real, or everything generated.
    cuts = np.concatenate([values[:1], (values[1:] + values[:-1]) / 2, [np.nextafter(values[-1], np.inf)]])
    right = (np.searchsorted(fakes, cuts) / len(fakes) + 1 - np.searchsorted(reals, cuts) / len(reals)) / 2
    best = int(right.argmax())
    return Attribution(auc, float(cuts[best]), float(right[best]))


def plot_attribution(generated: np.ndarray, real: np.ndarray, found: Attribution, distance: str, title: str) -> bytes:
    """Histogram of distances as figure 10 has it, generated blue and real orange, as PNG. distance: its name."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    everything = np.concatenate([generated, real])
    bins = np.linspace(0, everything.max() * 1.02 or 1, 41)
    for values, name, color in ((generated, "generated", "tab:blue"), (real, "real", "tab:orange")):
        label = f"{name}: {len(values)}, median {np.median(values):.4g}"
        axes.hist(values, bins, alpha=0.6, label=label, color=color)
    axes.axvline(found.threshold, color="black", linewidth=1, linestyle="--", label=f"{found.accuracy:.1%} told right")
    axes.set_xlabel(f"distance between image and projection ({distance})")
    axes.set_ylabel("images")
    axes.set_title(f"{title}\nAUC {found.auc:.3f}", fontsize=10)
    axes.legend()
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
