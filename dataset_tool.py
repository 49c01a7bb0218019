#!/usr/bin/env python
"""Makes data sets for training out of images, and looks at them: `python dataset_tool.py --help`."""

from __future__ import annotations

import signal
import sys

import click

from training.cli import OneLineGroup


@click.group(cls=OneLineGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
def cli() -> None:
    """Makes data sets for training out of images, and looks at them.

    A data set is a directory of TFRecords and a dataset.json.
    """


if __name__ != "__mp_main__":  # worker processes import this file too, and need none of the commands
    from training.dataset_cli import clean, convert, look, openmoji, published

    for module in (convert, published, openmoji, look, clean):
        for command in module.COMMANDS:
            cli.add_command(command)


def _stop(number: int, frame: object) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)  # an exception: what is unfinished is removed
    cli()
