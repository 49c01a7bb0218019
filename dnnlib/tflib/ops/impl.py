"""Which implementation an op uses: `impl=` of the call, else `SG2_OPS`, else compiled where that works."""

from __future__ import annotations

import os
import sys
from typing import Any

from dnnlib.tflib.ops.arguments import IMPLS, check
from dnnlib.tflib.ops.toolchain import OpsError

CHOICES = ("auto", *IMPLS)


def requested_impl() -> str:
    """What the environment variable `SG2_OPS` asks for: 'auto' (default), 'compiled' or 'ref'. Raises `OpsError`."""
    value = os.environ.get("SG2_OPS", "auto") or "auto"
    if value not in CHOICES:
        raise OpsError(f"environment variable SG2_OPS: found {value!r}, expected one of {', '.join(CHOICES)}")
    return value


def set_default_impl(value: str) -> None:
    """Choose for this process and its children: 'auto', 'compiled' or 'ref' (the `--ops` option of the scripts)."""
    check(value in CHOICES, "ops implementation", repr(value), "one of " + ", ".join(CHOICES))
    os.environ["SG2_OPS"] = value


def default_impl() -> str:
    """'compiled' or 'ref': what a call without `impl=` uses. Builds the library on first use unless 'ref' is asked."""
    return resolve_impl(None)


def check_impl(impl: Any) -> None:
    """Raise `ValueError` unless the `impl=` argument of a call is one of `CHOICES` or None."""
    check(impl is None or impl in CHOICES, "impl", repr(impl), "None or one of " + ", ".join(CHOICES))


def resolve_impl(impl: Any) -> str:
    """Turn the `impl=` argument of a call into 'compiled' or 'ref'."""
    check_impl(impl)
    choice = requested_impl() if impl in (None, "auto") else impl
    if choice == "ref" or (choice == "auto" and sys.platform == "win32"):  # no compiler is asked for on Windows
        return "ref"
    from dnnlib.tflib.ops import library  # builds on first use, so not at import

    return "compiled" if library.trusted(required=choice == "compiled") else "ref"
