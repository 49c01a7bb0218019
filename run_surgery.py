#!/usr/bin/env python
"""Works on trained networks: `python run_surgery.py --help`."""

from __future__ import annotations

import importlib
import pkgutil
import signal
import sys

import click

from training import surgery_cli
from training.cli import OneLineGroup


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


def _stop(number: int, frame: object) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)  # an exception: what is unfinished is removed
    cli()
