#!/usr/bin/env python
"""Makes data sets for training out of images, and looks at them: `python dataset_tool.py --help`."""

from __future__ import annotations

import click

from training.cli import OneLineGroup, run_stoppable


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


if __name__ == "__main__":
    run_stoppable(cli)
