#!/usr/bin/env python
"""Works on trained networks: `python run_surgery.py --help`."""

from __future__ import annotations

import importlib

import click

from training import surgery_cli
from training.cli import OneLineGroup, run_stoppable


class _Commands(OneLineGroup):
    """Commands whose modules are imported when they are asked for: `info` needs little of what the others do."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(surgery_cli.MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in surgery_cli.MODULES:
            return None
        module = importlib.import_module(f"{surgery_cli.__name__}.{surgery_cli.MODULES[cmd_name]}")
        return next(command for command in module.COMMANDS if command.name == cmd_name)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
def cli() -> None:
    """Works on trained networks: copies, resizes, widens, mixes, looks into and converts them.

    Networks are read from pickles (paths or URLs; StyleGAN2, StyleGAN2-ADA) and from what `convert` writes. Nothing in
    a file is executed, and none is overwritten without --force.
    """


if __name__ == "__main__":
    run_stoppable(cli)
