"""What surrounds a run: its directory, log, options, stopping and disk space."""

from dnnlib.submission.disk import DiskSpace, check_disk, format_bytes, free_bytes
from dnnlib.submission.log import LogTee
from dnnlib.submission.options import OPTIONS_FILE, read_options, write_options
from dnnlib.submission.run_dir import check_result_dir, create_run_dir, find_run_dir, list_run_dirs
from dnnlib.submission.stop import ABORT_FILE, GracefulStop, abort_requested, clear_abort

__all__ = [
    "ABORT_FILE",
    "OPTIONS_FILE",
    "DiskSpace",
    "GracefulStop",
    "LogTee",
    "abort_requested",
    "check_disk",
    "check_result_dir",
    "clear_abort",
    "create_run_dir",
    "find_run_dir",
    "format_bytes",
    "free_bytes",
    "list_run_dirs",
    "read_options",
    "write_options",
]
