"""What the scripts share: errors as one line with exit code 2, lists of numbers, a quiet TensorFlow."""

from __future__ import annotations

import errno
import logging
import math
import os
import re
import signal
import sys
from collections.abc import Sequence
from typing import Any

import click
import numpy.random  # noqa: F401  (early: a Ctrl-C that falls into its first use, which imports it, is swallowed there)

from dnnlib.util import UserError
from training.image_shapes import parse_size

# What a disk may refuse in the middle of a run.
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
_MOST_NUMBERS = 10_000_000


def quiet_tensorflow() -> None:
    """Keep TensorFlow's start-up messages off the screen. Call before it is imported; what the user set stays."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)


def run_stoppable(cli: click.Command) -> None:
    """Run a command line so that SIGTERM ends it by an exception: what is unfinished is removed."""

    def stop(number: int, frame: object) -> None:
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, stop)
    cli()


class _OneLineErrors:
    """A mistake of the user, in the command line or later, ends as one line `error: ...` on stderr, exit code 2."""

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, *rest: Any, **options: Any) -> None:
        options["standalone_mode"] = False
        try:
            code = super().main(args, prog_name, *rest, **options)  # type: ignore[misc]
        except UserError as err:
            _fail(str(err), err.keeps_lines)
        except click.ClickException as err:
            _fail(err.format_message())
        except (click.Abort, KeyboardInterrupt):
            click.echo("stopped", err=True)
            sys.exit(130)
        except BrokenPipeError:
            # The reader of our output has gone, e.g. `| head`; Python would complain once more at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        except OSError as err:
            if err.errno not in _DISK_ERRORS:
                raise
            _fail(f"{err.filename or 'writing'}: {err.strerror}; free some space or choose another directory")
        sys.exit(code if isinstance(code, int) else 0)


class OneLineCommand(_OneLineErrors, click.Command):
    """A script of one command."""


class OneLineGroup(_OneLineErrors, click.Group):
    """A script of several commands."""


def _fail(text: str, keeps_lines: bool = False) -> None:
    click.echo("error: " + (text if keeps_lines else " ".join(text.split())), err=True)
    sys.exit(2)


class NumberList(click.ParamType):
    """`5`, `0-15`, `1,2,5-9`: whole numbers >= 0, ranges with both ends."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        """The numbers, in the order of the text."""
        if not isinstance(value, str):
            return list(value)
        numbers: list[int] = []
        for part in value.split(","):
            match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
            if match is None:
                self.fail(f"found {part!r} in {value!r}, expected numbers and ranges such as 1,2,5-9", param, ctx)
            first, last = int(match[1]), int(match[2] or match[1])
            if last < first or last - first >= _MOST_NUMBERS:
                self.fail(f"found the range {part.strip()!r}, expected one that rises, such as 0-15", param, ctx)
            numbers.extend(range(first, last + 1))
        return numbers


class _Finite:
    """`nan` and `inf`, which Python reads as numbers, are none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number."""
        number = super().convert(value, param, ctx)  # type: ignore[misc]
        if not math.isfinite(number):
            self.fail(f"found {value}, expected a finite number", param, ctx)  # type: ignore[attr-defined]
        return number


class FiniteFloat(_Finite, click.types.FloatParamType):
    """Any number but `nan` and `inf`."""


class FiniteRange(_Finite, click.FloatRange):
    """A number within bounds, which infinity is not either where there is no upper one."""


class Resolution(click.ParamType):
    """`--resolution`: a side such as 256, as a number, or width x height such as 640x384, as (height, width)."""

    name = "integer"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | tuple[int, int]:
        """The option's value. Raises click's error for what is no number, `UserError` for a shape no network draws."""
        if not isinstance(value, str):
            return value
        if "x" in value.lower() or "×" in value:
            return parse_size(value)
        return click.INT.convert(value, param, ctx)
