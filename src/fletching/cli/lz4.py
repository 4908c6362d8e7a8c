"""``fletching lz4``: files and pipes as LZ4 blocks chained by history; a face of `fletching.lz4stream`."""

from __future__ import annotations

import contextlib
import enum
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from fletching.cli.cli_options import JsonOutput
from fletching.cli.output import ExitCode, counted, print_json, print_table, progress, say
from fletching.cli.output_files import writing
from fletching.errors import FletchingError, UsageError, WireError
from fletching.human_figures import human_bytes, human_count

if TYPE_CHECKING:
    from fletching.lz4stream import Decoder

__all__ = ["app"]

SUFFIX = ".lz4s"
_READ_BYTES = 1 << 20

app = typer.Typer(
    name="lz4",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Compress, decompress and inspect streams of LZ4 blocks chained by history (lz4.stream).",
    epilog="Exit codes: 0 done, 1 a file cannot be read or written, 2 wrong usage, "
    "3 the stream is damaged or cut.",
)


class Mode(enum.StrEnum):
    """How hard to look for matches."""

    DEFAULT = "default"
    FAST = "fast"
    HIGH_COMPRESSION = "high_compression"


class Strategy(enum.StrEnum):
    """How far back blocks refer."""

    RING_BUFFER = "ring_buffer"
    DOUBLE_BUFFER = "double_buffer"


class Width(enum.StrEnum):
    """Bytes of a size field."""

    ONE = "1"
    TWO = "2"
    FOUR = "4"


Source = Annotated[str, typer.Argument(metavar="FILE|-", help="A file, or - for stdin.")]
Output = Annotated[
    str | None,
    typer.Option("--output", "-o", metavar="FILE|-", help="Where to write; - for stdout."),
]
Force = Annotated[bool, typer.Option("--force", "-f", help="Overwrite the output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary.")]
SizeBytes = Annotated[
    Width, typer.Option("--size-bytes", help="Width of each block's size field, in bytes.")
]
Dictionary = Annotated[
    Path | None,
    typer.Option("--dictionary", metavar="FILE", help="What both sides know beforehand."),
]
EndMark = Annotated[
    bool,
    typer.Option("--end-mark", help="A length of 0 ends the stream (lz4.stream has none)."),
]
MaxBlock = Annotated[
    int,
    typer.Option("--max-block-bytes", min=1, help="Refuse blocks that decompress to more."),
]


@app.command()
def compress(
    source: Source,
    output: Output = None,
    page_bytes: Annotated[int, typer.Option("--page-bytes", min=1, help="Input per block.")] = 64
    * 1024,
    strategy: Annotated[
        Strategy,
        typer.Option(
            help="ring_buffer refers 64 KiB back; double_buffer one page, as lz4.stream reads."
        ),
    ] = Strategy.RING_BUFFER,
    mode: Annotated[Mode, typer.Option(help="How hard to look for matches.")] = Mode.DEFAULT,
    level: Annotated[
        int, typer.Option("--level", min=1, max=12, help="Level of high_compression.")
    ] = 9,
    acceleration: Annotated[
        int, typer.Option("--acceleration", min=1, help="Factor of mode fast.")
    ] = 1,
    size_bytes: SizeBytes = Width.FOUR,
    dictionary: Dictionary = None,
    end_mark: EndMark = False,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Compress a file, or stdin, to FILE.lz4s or stdout."""
    from fletching import lz4stream

    target = output or ("-" if source == "-" else source + SUFFIX)
    with _failures(), _reading(source) as (plain, length), _writing(target, force=force) as sink:
        encoder = lz4stream.Encoder(
            page_bytes,
            strategy=strategy,
            mode=mode,
            acceleration=acceleration,
            compression_level=level,
            store_comp_size=int(size_bytes),
            dictionary=_dictionary(dictionary),
            end_mark=end_mark,
        )
        for chunk in _chunks(plain, length, "compressing", quiet=quiet):
            for block in encoder.blocks_of(chunk):
                sink.write(block)
        for block in encoder.finish():
            sink.write(block)
    if not quiet:
        _summarise(encoder.bytes_in, encoder.bytes_out, encoder.blocks)


@app.command()
def decompress(
    source: Source,
    output: Output = None,
    size_bytes: SizeBytes = Width.FOUR,
    dictionary: Dictionary = None,
    end_mark: EndMark = False,
    max_block_bytes: MaxBlock = 4 * 1024 * 1024,
    max_total_bytes: Annotated[
        int | None,
        typer.Option("--max-total-bytes", min=0, help="Refuse streams that decompress to more."),
    ] = None,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Decompress FILE.lz4s, or stdin, to FILE or stdout.

    A file appears only when its stream was whole; on stdout, what comes before damage is out.
    """
    from fletching import lz4stream
    from fletching.lz4stream.streams import check_no_trailing

    if output is not None:
        target = output
    elif source == "-":
        target = "-"
    elif source.endswith(SUFFIX) and source != SUFFIX:
        target = source.removesuffix(SUFFIX)
    else:
        raise UsageError(f"{source} does not end in {SUFFIX}: say where to write with --output")
    with _failures(), _reading(source) as (stream, length), _writing(target, force=force) as sink:
        decoder = lz4stream.Decoder(
            store_comp_size=int(size_bytes),
            dictionary=_dictionary(dictionary),
            max_block_bytes=max_block_bytes,
            max_total_bytes=max_total_bytes,
            end_mark=end_mark,
        )
        for chunk in _chunks(stream, length, "decompressing", quiet=quiet):
            decoder.feed(chunk)
            for piece in decoder.events():
                sink.write(piece)
        decoder.finish()
        check_no_trailing(decoder)
    if not quiet:
        _summarise(decoder.bytes_out, decoder.bytes_consumed, decoder.blocks)


@app.command()
def info(
    source: Source,
    size_bytes: SizeBytes = Width.FOUR,
    dictionary: Dictionary = None,
    end_mark: EndMark = False,
    max_block_bytes: MaxBlock = 4 * 1024 * 1024,
    as_json: JsonOutput = False,
    quiet: Quiet = False,
) -> None:
    """Print a stream's blocks, sizes and ratio; decodes all of it.

    Exits with 0 if it is whole, and with 3 if it is damaged or cut.
    """
    from fletching import lz4stream

    with _failures(), _reading(source) as (stream, length):
        decoder = lz4stream.Decoder(
            store_comp_size=int(size_bytes),
            dictionary=_dictionary(dictionary),
            max_block_bytes=max_block_bytes,
            end_mark=end_mark,
        )
        stored, contents = _Spread(), _Spread()
        chunks = _chunks(stream, length, "reading", quiet=quiet)
        try:
            for block in _blocks(chunks, decoder):
                stored.add(block[0])
                contents.add(block[1])
        finally:
            _report(source, decoder, stored, contents, as_json=as_json)


class _Spread:
    """Least, mean and most of a count of lengths."""

    def __init__(self) -> None:
        self.count = self.total = self.most = 0
        self.least: int | None = None

    def add(self, length: int) -> None:
        self.count += 1
        self.total += length
        self.least = length if self.least is None else min(self.least, length)
        self.most = max(self.most, length)

    def as_dict(self) -> dict[str, float]:
        mean = self.total / self.count if self.count else 0.0
        return {"least": self.least or 0, "mean": round(mean, 1), "most": self.most}


def _blocks(chunks: Iterator[bytes], decoder: Decoder) -> Iterator[tuple[int, int]]:
    from fletching import lz4stream

    for block in lz4stream.blocks(chunks, decoder):
        yield block.stored_length, len(block.data)


def _report(
    source: str, decoder: Decoder, stored: _Spread, contents: _Spread, *, as_json: bool
) -> None:
    ratio = decoder.bytes_out / decoder.bytes_consumed if decoder.bytes_consumed else 0.0
    if as_json:
        print_json(
            {
                "source": source,
                "blocks": decoder.blocks,
                "stream_bytes": decoder.bytes_consumed,
                "content_bytes": decoder.bytes_out,
                "ratio": round(ratio, 4),
                "block_stored_bytes": stored.as_dict(),
                "block_content_bytes": contents.as_dict(),
                "trailing_bytes": len(decoder.unused_data),
            }
        )
        return
    rows = [
        ("blocks", human_count(decoder.blocks)),
        ("stream", f"{human_bytes(decoder.bytes_consumed)} ({decoder.bytes_consumed:,} bytes)"),
        ("contents", f"{human_bytes(decoder.bytes_out)} ({decoder.bytes_out:,} bytes)"),
        ("ratio", f"{ratio:.3f}"),
    ]
    for name, spread in (("block, stored", stored), ("block, contents", contents)):
        figures = spread.as_dict()
        rows.append(
            (name, f"{figures['least']:,} to {figures['most']:,} bytes, mean {figures['mean']:,}")
        )
    if decoder.unused_data:
        rows.append(("after the end mark", f"{len(decoder.unused_data):,} bytes"))
    print_table([source, ""], rows)


# --- files and pipes -----------------------------------------------------------------------------


@contextlib.contextmanager
def _failures() -> Iterator[None]:
    """Damage exits with 3; what the operating system refuses is a sentence and exits with 1."""
    try:
        yield
    except WireError as error:
        say(f"error: {error}")
        raise typer.Exit(ExitCode.DIFFERENT) from error
    except BrokenPipeError:
        raise
    except OSError as error:
        if isinstance(error, FletchingError):
            raise
        say(f"error: {error}")
        raise typer.Exit(ExitCode.FAILED) from error


@contextlib.contextmanager
def _reading(source: str) -> Iterator[tuple[IO[bytes], int | None]]:
    """The source and, for a file, its length in bytes."""
    if source == "-":
        yield sys.stdin.buffer, None
        return
    with Path(source).open("rb") as file:
        yield file, os.fstat(file.fileno()).st_size


@contextlib.contextmanager
def _writing(target: str, *, force: bool) -> Iterator[IO[bytes]]:
    """Stdout, or a file that takes its name only when everything is written."""
    if target == "-" and sys.stdout.isatty():
        raise UsageError("will not write binary data to a terminal: use --output FILE")
    if target != "-" and Path(target).exists() and not force:
        raise UsageError(f"{target} exists: use --force to overwrite it")
    with writing(target, replace=force) as file:
        yield file


def _chunks(file: IO[bytes], length: int | None, what: str, *, quiet: bool) -> Iterator[bytes]:
    """What the file holds, with a progress bar on stderr."""
    with progress(what, length or None, unit="bytes", quiet=quiet) as task:
        while chunk := file.read(_READ_BYTES):
            yield chunk
            task.add(len(chunk))


def _dictionary(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes()


def _summarise(contents: int, stream: int, blocks: int) -> None:
    ratio = contents / stream if stream else 0.0
    say(
        f"{human_bytes(contents)} in {counted(blocks, 'block')}, "
        f"{human_bytes(stream)} compressed, ratio {ratio:.3f}"
    )
