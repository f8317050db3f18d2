#!/usr/bin/env python3
"""Cuts the committed sample of Fashion-MNIST from the full data set.

usage: fashion_mnist_sample.py FOLDER

FOLDER holds the four full IDX files, compressed with gzip (Debian's package
dataset-fashion-mnist installs them). Writes, relative to the repository:

  examples/data/fashion-mnist/   the first 10,000 training and 2,000 test images
  tests/data/pictures/CLASS/     four test images of each of three classes, as PNG

Standard library only. The same input always gives the same bytes (with the
same zlib), so `git status` shows whether the committed files are what it says.
"""

import gzip
import struct
import sys
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "examples" / "data" / "fashion-mnist"
PICTURES = ROOT / "tests" / "data" / "pictures"
COUNTS = {"train": 10_000, "t10k": 2_000}
CLASSES = {"trouser": 1, "sneaker": 7, "bag": 8}
PICTURES_PER_CLASS = 4
SIDE = 28


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__.strip())
    source = Path(sys.argv[1])
    SAMPLE.mkdir(parents=True, exist_ok=True)
    for split, count in COUNTS.items():
        images = read_idx(source / f"{split}-images-idx3-ubyte.gz", (SIDE, SIDE), count)
        labels = read_idx(source / f"{split}-labels-idx1-ubyte.gz", (), count)
        write_idx(SAMPLE / f"{split}-images-idx3-ubyte.gz", (SIDE, SIDE), images)
        write_idx(SAMPLE / f"{split}-labels-idx1-ubyte.gz", (), labels)
    # The pictures come from the test images, which the loop above read last: no training run has seen them.
    for name, label in CLASSES.items():
        (PICTURES / name).mkdir(parents=True, exist_ok=True)
        chosen = [image for image, other in zip(images, labels) if other[0] == label][:PICTURES_PER_CLASS]
        for number, image in enumerate(chosen):
            (PICTURES / name / f"{number}.png").write_bytes(png(image))


def read_idx(path, shape, count):
    """The first `count` items of an IDX file of unsigned bytes, each as bytes."""
    data = gzip.decompress(path.read_bytes())
    zero, kind, dimensions = struct.unpack(">HBB", data[:4])
    header = struct.unpack(f">{dimensions}I", data[4 : 4 + 4 * dimensions])
    if (zero, kind) != (0, 8) or header[1:] != shape or header[0] < count:
        sys.exit(f"{path}: expected at least {count} items of shape {shape}, found {header}")
    start, size = 4 + 4 * dimensions, SIDE * SIDE if shape else 1
    return [data[start + index * size : start + (index + 1) * size] for index in range(count)]


def write_idx(path, shape, items):
    header = struct.pack(f">HBB{1 + len(shape)}I", 0, 8, 1 + len(shape), len(items), *shape)
    path.write_bytes(gzip.compress(header + b"".join(items), compresslevel=9, mtime=0))


def png(pixels):
    """An 8-bit grey PNG of SIDE x SIDE pixels."""
    rows = b"".join(b"\0" + pixels[row * SIDE : (row + 1) * SIDE] for row in range(SIDE))
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


if __name__ == "__main__":
    main()
