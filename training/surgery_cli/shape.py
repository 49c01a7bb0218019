"""Commands that change a model's shape: grow, shrink, widen, noconst, add-labels, add-alpha."""

from __future__ import annotations

import re

import click

from dnnlib.util import UserError, list_nearest
from training.fmaps import SIZES, Fmaps
from training.surgery.alpha import add_alpha
from training.surgery.files import read_model
from training.surgery.growing import to_orig
from training.surgery.labels import add_labels
from training.surgery.noconst import to_noconst
from training.surgery.resize import resize
from training.surgery.states import Model, fmaps_of, resolution_of
from training.surgery.widen import widen
from training.surgery.widen_layers import HOW
from training.surgery_cli.common import (
    check_target,
    finish,
    force_option,
    seed_option,
    source_argument,
    target_argument,
    verbose_option,
)


@click.command("grow")
@source_argument
@target_argument
@click.option("--resolution", type=int, help="Of the new networks. [default: twice the old one]")
@click.option("--fmaps", type=click.IntRange(1), help="Feature maps of the new blocks. [default: the network's rule]")
@seed_option
@verbose_option
@force_option
def grow_command(
    source: str, target: str, resolution: int | None, fmaps: int | None, seed: int, verbose: bool, force: bool
) -> None:
    """Write networks of a higher resolution that draw the same, upsampled, until they are trained."""
    check_target(target, force, [source])
    model = read_model(source)
    found = _resolution(model)
    resolution = 2 * found if resolution is None else resolution
    if resolution <= found:
        raise UserError(f"--resolution {resolution}: {source} has {found} already; shrink makes it smaller")
    finish(*resize(model, resolution, fmaps, seed), target, verbose)


@click.command("shrink")
@source_argument
@target_argument
@click.option("--resolution", type=int, help="Of the new networks. [default: half the old one]")
@seed_option
@verbose_option
@force_option
def shrink_command(source: str, target: str, resolution: int | None, seed: int, verbose: bool, force: bool) -> None:
    """Write networks of a lower resolution: the top blocks are taken off."""
    check_target(target, force, [source])
    model = read_model(source)
    found = _resolution(model)
    resolution = found // 2 if resolution is None else resolution
    if resolution >= found:
        raise UserError(f"--resolution {resolution}: {source} has {found}; grow makes it larger")
    finish(*resize(model, resolution, None, seed), target, verbose)


def _resolution(model: Model) -> int:
    return resolution_of(next(iter(model.networks.values())))


class FmapTable(click.ParamType):
    """`64:512,128:256`: feature maps by resolution."""

    name = "table"

    def convert(
        self, value: str | dict[int, int], param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[int, int]:
        """Resolutions to counts."""
        if not isinstance(value, str):
            return value
        table = {}
        for part in value.split(","):
            match = re.fullmatch(r"\s*(\d+)\s*:\s*(\d+)\s*", part)
            if match is None:
                self.fail(f"found {part!r} in {value!r}, expected resolutions and counts as 64:512,128:256", param, ctx)
            table[int(match[1])] = int(match[2])
        return table


@click.command("widen")
@source_argument
@target_argument
@click.option("--size", metavar="NAME", help=f"Feature maps of a named size: {', '.join(SIZES)}.")
@click.option("--fmap-base", type=click.IntRange(1), help="Feature maps by the published rule (config-f: 16384).")
@click.option("--fmap-max", type=click.IntRange(1), help="With --fmap-base: the most. [default: 512]")
@click.option("--fmaps", type=FmapTable(), metavar="RES:N,...", help="Feature maps of some resolutions.")
@click.option("--dlatent-size", type=click.IntRange(1), help="Dimensions of w.")
@click.option("--mapping-fmaps", type=click.IntRange(1), help="Width of the hidden mapping layers.")
@click.option(
    "--how",
    type=click.Choice(HOW),
    default="zero",
    show_default=True,
    help="New maps start at random and are not read yet, or are copies that share the weights of the old ones.",
)
@click.option("--networks", default="G,D,Gs", show_default=True, metavar="G,D,Gs", help="Which to widen.")
@seed_option
@verbose_option
@force_option
def widen_command(
    source: str,
    target: str,
    size: str | None,
    fmap_base: int | None,
    fmap_max: int | None,
    fmaps: dict[int, int] | None,
    dlatent_size: int | None,
    mapping_fmaps: int | None,
    how: str,
    networks: str,
    seed: int,
    verbose: bool,
    force: bool,
) -> None:  # fmt: skip
    """Write networks with more feature maps that draw and score the same until they are trained."""
    check_target(target, force, [source])
    names = tuple(name.strip() for name in networks.split(","))
    for name in names:
        if name not in ("G", "D", "Gs"):
            raise UserError(f"--networks: unknown network {name!r}: {list_nearest(name, ('G', 'D', 'Gs'))}")
    if ("G" in names) != ("Gs" in names):
        raise UserError("--networks: G and Gs must stay alike, name both or neither")
    model = read_model(source)
    rule = _rule(model, size, fmap_base, fmap_max, fmaps)
    if rule is None and dlatent_size is None and mapping_fmaps is None:
        raise UserError("widen: say what shall be wider: --size, --fmap-base, --fmaps, --dlatent-size, --mapping-fmaps")
    finish(*widen(model, rule, dlatent_size, mapping_fmaps, how, names, seed), target, verbose)


def _rule(
    model: Model, size: str | None, fmap_base: int | None, fmap_max: int | None, fmaps: dict[int, int] | None
) -> Fmaps | None:
    if (size is not None) + (fmap_base is not None) + (fmaps is not None) > 1:
        raise UserError("widen: --size, --fmap-base and --fmaps exclude each other")
    if fmap_max is not None and fmap_base is None:
        raise UserError("--fmap-max goes with --fmap-base")
    if size is not None:
        by_name = {name.lower(): table for name, table in SIZES.items()}
        if size.lower() not in by_name:
            raise UserError(f"--size: unknown size {size!r}: {list_nearest(size, SIZES)}")
        return Fmaps(explicit=by_name[size.lower()])
    if fmap_base is not None:
        return Fmaps(base=fmap_base, max=512 if fmap_max is None else fmap_max)
    if fmaps is None:
        return None
    old = fmaps_of(next(iter(model.networks.values())))
    levels = [2**level for level in range(2, _resolution(model).bit_length())]
    unknown = sorted(set(fmaps) - set(levels))
    if unknown:
        raise UserError(f"--fmaps: no block of resolution {unknown[0]}; there are {', '.join(map(str, levels))}")
    return Fmaps(explicit={level: fmaps.get(level, old.at(level)) for level in levels})


@click.command("noconst")
@source_argument
@target_argument
@click.option("--fresh", is_flag=True, help="Start the new layers at random instead of drawing the old constant.")
@seed_option
@verbose_option
@force_option
def noconst_command(source: str, target: str, fresh: bool, seed: int, verbose: bool, force: bool) -> None:
    """Write generators whose first block is driven by w instead of being a learned constant."""
    check_target(target, force, [source])
    finish(*to_noconst(read_model(source), seed, not fresh), target, verbose)


@click.command("add-labels")
@source_argument
@target_argument
@click.option("--label-size", type=click.IntRange(1), required=True, help="Components of a label, e.g. classes.")
@seed_option
@verbose_option
@force_option
def add_labels_command(source: str, target: str, label_size: int, seed: int, verbose: bool, force: bool) -> None:
    """Write conditional networks that draw the same for every label until they are trained."""
    check_target(target, force, [source])
    finish(*add_labels(read_model(source), label_size, seed), target, verbose)


@click.command("add-alpha")
@source_argument
@target_argument
@verbose_option
@force_option
def add_alpha_command(source: str, target: str, verbose: bool, force: bool) -> None:
    """Write networks with an alpha channel, opaque until they are trained: from RGB to RGBA."""
    check_target(target, force, [source])
    finish(*add_alpha(read_model(source)), target, verbose)


@click.command("orig")
@source_argument
@target_argument
@verbose_option
@force_option
def orig_command(source: str, target: str, verbose: bool, force: bool) -> None:
    """Write networks of progressive growing (config-b to config-d) as ones of architecture orig, which can train."""
    check_target(target, force, [source])
    finish(*to_orig(read_model(source)), target, verbose)


COMMANDS = (
    grow_command,
    shrink_command,
    widen_command,
    noconst_command,
    add_labels_command,
    add_alpha_command,
    orig_command,
)
