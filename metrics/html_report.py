"""`report.html` of a run: curves, grids and configuration on one page that needs nothing else to be shown."""

from __future__ import annotations

import io
import math
import os
import shlex
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from PIL import Image

from dnnlib.util import atomic_write, format_time
from metrics.feature_names import EFFNET
from metrics.report import FEW_IMAGES
from metrics.report_markup import CSS, captioned, embedded_image, escape, scrolling, section, side_by_side, table
from metrics.report_plots import format_number, plot_metric, plot_stats
from metrics.run_files import MeasuredSeries, Point, RunFiles, flatten, read_run

REPORT_FILE = "report.html"
_GRID_WIDTH = 1200  # pixels on the page
_SMALL_WIDTH = 800  # two pictures narrower than this stand side by side
_MIDDLE_GRIDS = 3
_SECONDS = ("Timing/sec_per_tick", "Timing/maintenance_sec")


class _Panel(NamedTuple):
    """A picture of curves. takes: which tags, if no panel before has taken them; setting: one that stays as it is all
    the time is told in words; for the rest see `plot_stats`."""

    title: str
    takes: Callable[[str], bool]
    log_scale: bool = False
    band: bool = False
    from_zero: bool = False
    setting: bool = False


_PANELS = (
    _Panel("Losses", lambda tag: tag in ("Loss/G/loss", "Loss/D/loss"), band=True),
    _Panel("Scores of D (logits)", lambda tag: tag.startswith("Loss/scores/"), band=True),
    _Panel("Signs of the scores of D (1: all called real)", lambda tag: tag.startswith("Loss/signs/")),
    _Panel("Path lengths and their penalty", lambda tag: tag.startswith("Loss/pl_"), log_scale=True),
    _Panel("Gradient penalty (R1)", lambda tag: tag == "Loss/gradient_penalty", log_scale=True),
    _Panel("Regularisation terms", lambda tag: tag in ("Loss/G/reg", "Loss/D/reg"), log_scale=True),
    _Panel("Gradient norms", lambda tag: tag.startswith("Gradients/"), log_scale=True),
    _Panel("Learning rates", lambda tag: tag.endswith("/learning_rate"), from_zero=True),
    _Panel("Steps skipped (gradients not finite)", lambda tag: tag.endswith("/skipped_steps"), from_zero=True),
    _Panel("Share of steps skipped, by phase", lambda tag: tag.startswith("Skipped/"), from_zero=True),
    _Panel("Loss scales", lambda tag: tag.startswith("LossScale/"), log_scale=True),
    _Panel("Strength of augmentation (p)", lambda tag: tag == "Progress/augment", from_zero=True),
    _Panel("Signs of overfitting (augmentation goes by one)", lambda tag: tag.startswith("Progress/augment_")),
    _Panel("Diversity of pixels", lambda tag: tag.startswith("Diversity/"), from_zero=True),
    _Panel("Images per step", lambda tag: tag == "Schedule/batch", from_zero=True, setting=True),
    _Panel("Weight of R1 (gamma)", lambda tag: tag == "Schedule/r1_gamma", from_zero=True, setting=True),
    _Panel("Share of mixed styles", lambda tag: tag == "Schedule/style_mixing_prob", from_zero=True, setting=True),
    _Panel("Times that the run was set back", lambda tag: tag == "Watch/rollbacks", from_zero=True),
    _Panel("Speed (images/s)", lambda tag: tag == "Timing/img_per_sec", from_zero=True),
    _Panel("Seconds of ticks and between them", lambda tag: tag in _SECONDS, from_zero=True),
    _Panel("Memory (GiB)", lambda tag: tag.startswith("Resources/"), from_zero=True),
    _Panel("Other", lambda tag: not tag.startswith(("Progress/", "Timing/", "Metrics/"))),
)


def write_report(run_dir: os.PathLike | str, defaults: Mapping[str, Any] | None = None) -> Path:
    """Writes `report.html` into a run directory, atomically, and returns its path.

    defaults: default options as in `training_options.json`; those of the run that differ are shown first. What is
    missing or damaged in the directory is named on the page. Raises `UserError` if there is no such directory, or it
    is not writable.
    """
    run = read_run(run_dir)
    # The sections first: they find further problems, which are told above them.
    metrics, pictures = _metrics(run), _pictures(run)
    sections = [
        metrics, pictures, _curves(run), _analyses(run), _configuration(run, defaults), _resume(run, run_dir),
    ]  # fmt: skip
    name = escape(run.directory.resolve().name)
    page = "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{name}</title>\n<style>{CSS}</style>\n</head>\n<body>",
            f"<h1>{name}</h1>",
            _headline(run),
            _problems(run),
            *sections,
            "</body>\n</html>\n",
        ]
    )
    path = run.directory / REPORT_FILE
    with atomic_write(path, "w") as file:
        file.write(page)
    return path


def _last(run: RunFiles, tag: str) -> float:
    values = [p.mean for p in run.stats.get(tag, []) if math.isfinite(p.mean)]
    return values[-1] if values else math.nan


def _headline(run: RunFiles) -> str:
    options = run.options or {}
    total = options.get("schedule.total_kimg")
    trained = f"{format_number(run.kimg)} kimg"
    if isinstance(total, (int, float)):
        trained += f" of {format_number(total)}"
    facts = [("trained", trained)]
    speeds = [p.mean for p in run.stats.get("Timing/img_per_sec", []) if math.isfinite(p.mean)]
    if speeds:
        facts.append(("speed, median of ticks", f"{format_number(statistics.median(speeds))} images/s"))
    seconds = _last(run, "Timing/total_sec")
    if math.isfinite(seconds):
        facts.append(("time", format_time(seconds)))
    if options.get("data.dataset"):
        facts.append(("data set", Path(str(options["data.dataset"])).name))
    for one in run.measured:
        if one.best is not None:
            snapshot = one.best.snapshot.removesuffix(".pkl")
            facts.append((f"best {one.title}", f"{format_number(one.best.value)} ({snapshot})"))
    cells = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in facts)
    return f'<dl class="facts">{cells}</dl>'


def _problems(run: RunFiles) -> str:
    if not run.problems:
        return ""
    items = "".join(f"<li>{escape(problem)}</li>" for problem in run.problems)
    return f'<div class="problems"><b>Missing or damaged</b><ul>{items}</ul></div>'


def _metrics(run: RunFiles) -> str:
    if not run.measured:
        return section("Metrics", "<p>No metric was measured (no readable metric-*.jsonl).</p>")
    names = list(dict.fromkeys(one.name for one in run.measured))
    figures = []
    for name in names:
        series = [one for one in run.measured if one.name == name]
        figures.append(captioned(name, embedded_image(plot_metric(series), "svg+xml", f"{name} against kimg")))
    rows = []
    for one in run.measured:
        c, best = one.conditions, one.best
        psi = c["truncation_psi"]
        rows.append((
            one.title, "" if best is None else format_number(best.value),
            "" if best is None else best.snapshot.removesuffix(".pkl"),
            len(one.points), c["feature_network"], str(c["weights_sha256"] or "")[:12], c["resize"],
            c["num_fake"], c["num_real"], {True: "yes", False: "no"}.get(c["mirror"], "?"),
            "none" if psi is None else psi, c["variant"] or "",
            c["dataset"], c["dataset_filter"] or "",
        ))  # fmt: skip
    head = ("result", "best", "of snapshot", "snapshots", "feature network", "weights (sha256)", "resized by",
            "fakes", "reals", "mirrored", "truncation", "conventions", "data set", "made with")  # fmt: skip
    notes = "".join(f"<li>{escape(note)}</li>" for note in _metric_notes(run.measured))
    return section("Metrics", side_by_side(figures), scrolling(table(head, rows)), f"<ul>{notes}</ul>")


def _metric_notes(measured: Sequence[MeasuredSeries]) -> list[str]:
    notes = ["Values compare only where all columns from the feature network on are equal."]
    if any(one.conditions["feature_network"] == EFFNET for one in measured):
        notes.append(
            "Distances in the features of EfficientNet-lite0 rank models among themselves; their numbers mean nothing "
            "beside FID and other published values."
        )
    few = {one.metric for one in measured if isinstance(n := one.conditions["num_fake"], int) and n < FEW_IMAGES}
    if few:
        notes.append(f"{', '.join(sorted(few))}: fewer than {FEW_IMAGES:,} fakes, so compare it with itself only.")
    return notes


def _pictures(run: RunFiles) -> str:
    chosen = [path for path in (run.reals, *choose_grids(run.grids)) if path is not None]
    figures = [figure for path in chosen if (figure := _picture(run, path))]
    return section("Images", side_by_side(figures) if figures else "<p>No grids.</p>")


def choose_grids(grids: Sequence[Path]) -> list[Path]:
    """The first grid, some between, evenly spread, and the last."""
    last = len(grids) - 1
    steps = _MIDDLE_GRIDS + 1
    return [grids[i] for i in sorted({round(last * step / steps) for step in range(steps + 1)})] if grids else []


def _picture(run: RunFiles, path: Path, is_grid: bool = True) -> str:
    """A picture scaled for the page, linked to the file; "" and a problem if it cannot be read.

    Grids that are wide get a line of their own, pixels of small ones stay sharp.
    """
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGBA" if opened.mode in ("LA", "RGBA", "PA") else "RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as err:
        run.problems.append(f"{path.name} is no readable picture: {err}")
        return ""
    if picture.mode == "RGBA":
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(white, picture).convert("RGB")
    width, height = picture.size
    if width > _GRID_WIDTH:
        size = (_GRID_WIDTH, max(round(height * _GRID_WIDTH / width), 1))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    image = embedded_image(buffer.getvalue(), "jpeg", path.name, "pixels" if is_grid and width < _SMALL_WIDTH else "")
    link = f'<a href="{escape(_relative_url(path.name))}">{image}</a>'
    return captioned(f"{path.name} ({width} x {height})", link, "wide" if is_grid and width >= _SMALL_WIDTH else "")


def _relative_url(name: str) -> str:
    # The dot keeps a name with a colon from being taken for a scheme.
    return "./" + quote(os.fsencode(name))


def _curves(run: RunFiles) -> str:
    if not run.stats:
        return section("Training", "<p>No statistics (no readable stats.jsonl).</p>")
    left = dict(run.stats)
    figures, constant, zero, never_finite = [], [], [], []
    for panel in _PANELS:
        curves: dict[str, list[Point]] = {tag: left.pop(tag) for tag in list(left) if panel.takes(tag)}
        if panel.setting and curves and len({p.mean for points in curves.values() for p in points}) == 1:
            constant += [f"{tag} {format_number(points[0].mean)}" for tag, points in curves.items()]
        elif any(math.isfinite(p.mean) and p.mean != 0 for points in curves.values() for p in points):
            shown = {tag.removeprefix("Loss/"): p for tag, p in curves.items()}
            svg = plot_stats(shown, panel.log_scale, panel.band, panel.from_zero)
            figures.append(
                captioned(panel.title, embedded_image(svg, "svg+xml", f"{panel.title}: {', '.join(curves)}"))
            )
        else:
            for tag, points in curves.items():
                (zero if any(math.isfinite(p.mean) for p in points) else never_finite).append(tag)
    return section(
        "Training",
        "<p>Means of each tick. Bands: one standard deviation of the minibatches of a tick.</p>",
        side_by_side(figures),
        f"<p>The same all the time: {escape(', '.join(constant))}</p>" if constant else "",
        f"<p>Never other than 0: {escape(', '.join(zero))}</p>" if zero else "",
        f"<p>Never finite: {escape(', '.join(never_finite))}</p>" if never_finite else "",
    )


def _analyses(run: RunFiles) -> str:
    figures = [figure for path in run.analyses if (figure := _picture(run, path, is_grid=False))]
    return section("Analyses", side_by_side(figures)) if figures else ""


def _configuration(run: RunFiles, defaults: Mapping[str, Any] | None) -> str:
    if run.options is None:
        return section("Configuration", "<p>Not known: training_options.json is missing or damaged.</p>")
    normal = flatten(dict(defaults or {}))
    changed = [(k, _show(v), _show(normal.get(k))) for k, v in run.options.items() if normal.get(k, v) != v]
    # A field that this version does not know has no default to differ from.
    rest = [(k, _show(v)) for k, v in run.options.items() if normal.get(k, v) == v]
    parts = []
    if changed:
        listed = table(("field", "value", "default"), changed)
        parts.append(f"<details><summary>{len(changed)} fields differ from the defaults</summary>{listed}</details>")
    title = f"{len(rest)} fields as by default" if normal else f"{len(rest)} fields"
    parts.append(f"<details><summary>{title}</summary>{table(('field', 'value'), rest)}</details>")
    return section("Configuration", *parts)


def _show(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return str(value)


def _resume(run: RunFiles, run_dir: os.PathLike | str) -> str:
    place = shlex.quote(os.path.normpath(os.fspath(run_dir)))
    if run.states:
        text = f"Continues from {run.states[-1].name}:"
        command = f"python run_training.py --resume {place}"
        total = (run.options or {}).get("schedule.total_kimg")
        if isinstance(total, (int, float)) and run.kimg >= total:
            text = f"The run is complete. To train longer, from {run.states[-1].name}:"
            command += f" --total-kimg {2 * total:g}"
    elif run.snapshots:
        newest = shlex.quote(os.path.normpath(os.path.join(run_dir, run.snapshots[-1].name)))
        text = "There is no training state to resume. A new run can start from the networks of the last snapshot:"
        command = f"python run_training.py --init-from {newest} --config {place}"
    else:
        return section("To continue", "<p>There is neither a training state nor a snapshot.</p>")
    return section("To continue", f"<p>{escape(text)}</p><pre>{escape(command)}</pre>")
