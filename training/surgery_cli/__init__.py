"""Commands of run_surgery.py; each module lists its own in COMMANDS."""

#: Command -> the module here that has it.
MODULES = {
    "add-alpha": "shape",
    "add-labels": "shape",
    "average": "mix",
    "convert": "files",
    "copy": "mix",
    "grow": "shape",
    "info": "info",
    "interpolate": "mix",
    "mean-w": "mean_w",
    "noconst": "shape",
    "orig": "shape",
    "shrink": "shape",
    "strip": "files",
    "widen": "shape",
}
