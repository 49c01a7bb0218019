"""Members of tar archives, of compressed ones too: found where they are, damaged and joined archives included."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from dnnlib.util import UserError
from training.archives import BEYOND, open_regular
from training.dataset_items import Part

TAR_ENDINGS = (".tar",)
PACKED_TAR_ENDINGS = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz")
# tarfile reads names of any length and headers that follow headers, as far as a damaged size leads.
_TAR_ERRORS = (tarfile.TarError, OSError, ValueError, OverflowError, MemoryError, RecursionError)
_MOST_ZEROS = 4 << 20  # bytes between archives that have been joined; programs fill up to 1 MiB


def tar_members(path: Path, given: Path | None = None) -> Iterator[tuple[str, Part | str]]:
    """(name, where it is, or why it cannot be read) of every file in an uncompressed tar archive.

    Args:
        given: what it is in messages, None: `path`.
    Raises:
        UserError: no readable tar archive. One that is cut off gives what it has, and then the reason.
    """
    count = 0
    try:
        with open_regular(str(path)) as file:
            total, start = os.fstat(file.fileno()).st_size, 0
            while start is not None:
                file.seek(start)
                with tarfile.open(fileobj=file, mode="r:") as archive:
                    while (member := archive.next()) is not None:
                        archive.members.clear()  # it would hold an object for every member
                        count += 1
                        if archive.offset < member.offset_data:  # going back there would never end
                            raise tarfile.ReadError("a member of negative size")
                        if member.isreg() and not member.issparse():
                            known = member.offset_data + member.size <= total
                            yield member.name, Part(member.offset_data, member.size) if known else BEYOND
                        elif not member.isdir():
                            yield member.name, "not a regular file inside the archive (a link, a pipe or the like)"
                    if archive.offset >= total:  # programs write zeros there
                        yield f"(after member {count})", "no end of the archive: it may be cut off"
                    start = _behind_tar_end(file, archive.offset)
    except _TAR_ERRORS as err:
        reason = str(err) or type(err).__name__
        if not count:
            raise UserError(f"cannot read the archive {given or path}: {reason}") from err
        yield f"(after member {count})", f"the archive is cut off or damaged ({reason})"


def _behind_tar_end(file: BinaryIO, end: int) -> int | None:
    """Where a tar archive goes on behind zeros, None: nowhere. Archives may have been joined to one.

    Args:
        end: where no member was found; tarfile takes any block that is no header for the end.
    Raises:
        ReadError: that is not the end; a single block of zeros is none, either.
    """
    size, zeros = tarfile.BLOCKSIZE, 0
    file.seek(end)
    while (block := file.read(size)) and not block.strip(b"\0"):
        zeros += 1
        if zeros * size > _MOST_ZEROS:
            return None
    if not block:
        return None
    if not zeros:
        raise tarfile.ReadError("no header where the next member should be")
    try:
        tarfile.TarInfo.frombuf(block, tarfile.ENCODING, "surrogateescape")
    except tarfile.HeaderError:
        if zeros == 1:
            raise tarfile.ReadError("a block of zeros, and then no header where the next member should be") from None
        return None  # whatever somebody has put behind a proper end
    return end + zeros * size


def unpack_tar(path: Path, folder: Path) -> tuple[Path, str | None]:
    """Decompresses a tar.gz, tar.bz2 or tar.xz into one tar file in `folder`, because its members cannot be reached in
    another order than that of the file. Its members stay inside. What is there from a run before is used again.

    Args:
        folder: of this process alone, as long as it works.
    Returns:
        the tar file, and why it is not whole: what precedes a cut or damage is there. None: it is whole.
    Raises:
        UserError: nothing can be decompressed, or no room on the disk.
    """
    status = path.stat()
    result = folder / f"{zlib.crc32(os.fsencode(path.resolve())):08x}-{status.st_size}-{status.st_mtime_ns}.tar"
    note = result.with_suffix(".damage")
    if not result.exists():
        opener = {"gz": gzip.open, "bz": bz2.open, "xz": lzma.open}[_compression(path)]
        temp = result.with_suffix(".part")  # in place of what a killed process has left
        damages: list[str] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with open(temp, "wb") as out:
                for chunk in _decompressed(opener, path, damages):
                    out.write(chunk)
                empty = not out.tell()
            if damages and not empty:
                note.write_text(damages[0], "utf-8")
        except OSError as err:
            temp.unlink(missing_ok=True)
            raise UserError(f"cannot decompress {path} into {folder}: {err.strerror or err}") from err
        if empty:
            temp.unlink()
            raise UserError(f"cannot decompress {path}: {' '.join(damages) or 'it is empty'}")
        os.replace(temp, result)
    return result, note.read_text("utf-8") if note.exists() else None


def _decompressed(opener: Callable[[Path, str], BinaryIO], path: Path, damages: list[str]) -> Iterator[bytes]:
    """What can be decompressed; if that is not all, the reason is added to `damages`."""
    try:
        with opener(path, "rb") as packed:
            while chunk := packed.read1(1 << 20):  # read would lose what precedes the damage
                yield chunk
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as err:
        damages.append(getattr(err, "strerror", None) or str(err))


def _compression(path: Path) -> str:
    with open_regular(str(path)) as file:
        start = file.read(6)
    if start.startswith(b"\x1f\x8b"):
        return "gz"
    if start.startswith(b"BZh"):
        return "bz"
    if start == b"\xfd7zXZ\0":
        return "xz"
    raise UserError(f"cannot decompress {path}: neither gzip, bzip2 nor xz")
