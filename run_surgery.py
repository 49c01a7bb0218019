#!/usr/bin/env python
"""Works on trained networks: `python run_surgery.py --help`."""

from __future__ import annotations

import importlib
import pkgutil

import click

from training import surgery_cli
from training.cli import OneLineGroup, run_stoppable


@click.group(cls=OneLineGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
def cli() -> None:
    """Works on trained networks: copies, resizes, widens, mixes, looks into and converts them.

    Networks are read from pickles (paths or URLs; StyleGAN2, StyleGAN2-ADA) and from what `convert` writes. Nothing in
    a file is executed, and none is overwritten without --force.
    """


for found in pkgutil.iter_modules(surgery_cli.__path__):
    module = importlib.import_module(f"{surgery_cli.__name__}.{found.name}")
    for command in getattr(module, "COMMANDS", ()):
        cli.add_command(command)


if __name__ == "__main__":
    run_stoppable(cli)
