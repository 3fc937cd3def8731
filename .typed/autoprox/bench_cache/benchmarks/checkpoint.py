"""Checkpoint: reads the plain values in a stranger's zipped torch file, and refuses a file that would run code."""

import io
import pickletools
import zipfile
from typing import Any

import torch

from autoprox.bench_cache.runtime.checks import MAX_BYTES, BenchmarkError, quoted

MAX_OPCODES = 2_000_000  # about a million values; bounds time and memory whatever the file says
# Pickle opcodes that make, keep and nest plain values. All others import, call or build something.
_PLAIN_OPCODES = """
    PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT LONG LONG1 LONG4 BININT BININT1 BININT2 FLOAT
    BINFLOAT UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 EMPTY_LIST LIST APPEND APPENDS EMPTY_DICT DICT SETITEM
    SETITEMS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET
"""


def read_plain_checkpoint(data: bytes) -> Any:
    """Return the lists, dicts, numbers and texts in the bytes of a zipped checkpoint, as `torch.save` writes it.

    This is stricter than `torch.load(weights_only=True)`, which does the reading in the end. It refuses all tensors,
    classes and functions, compressed contents (torch writes none), and more than `MAX_OPCODES` steps.

    Raises:
        BenchmarkError: the file has something else in it, or is cut off or damaged; nothing in it has been run.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise BenchmarkError("refused: its contents are compressed, as torch.save never does")
            if sum(entry.file_size for entry in entries) > MAX_BYTES:
                raise BenchmarkError(f"refused: it unpacks to more than {MAX_BYTES // 2**20} MiB")
            pickles = [entry for entry in entries if entry.filename.endswith("data.pkl")]
            if len(pickles) != 1:
                raise BenchmarkError(f"expected one data.pkl inside, as torch.save writes it, found {len(pickles)}")
            _refuse_code(archive.read(pickles[0]))
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except BenchmarkError:
        raise
    except Exception as error:  # a damaged file can make zip, pickle and torch raise anything
        raise BenchmarkError(f"damaged or cut off: {_first_line(error)}") from error


def _refuse_code(pickle: bytes) -> None:
    plain, texts = _PLAIN_OPCODES.split(), list[str]()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(pickle)):
        if count >= MAX_OPCODES:
            raise BenchmarkError(f"refused: more than {MAX_OPCODES:,} values; no benchmark has as many")
        if opcode.name not in plain:
            named = argument if isinstance(argument, str) else " ".join(texts[-2:])
            raise BenchmarkError(
                f"refused: it is not plain data; reading it would import or call {quoted(named)} ({opcode.name})"
            )
        if isinstance(argument, str):
            texts = [*texts[-1:], argument]


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0][:120] if str(error) else 'no details'}"
