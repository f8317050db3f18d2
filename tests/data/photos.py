#!/usr/bin/env python3
"""Cuts the small photographs in tests/data/photos from two that scikit-learn ships.

usage: photos.py        (needs scikit-learn and Pillow)

Credit and licence: tests/data/pictures/README.md. Different sizes and shapes on purpose: tests want a wide one, a
tall one, a square one and a grey one.
"""

from pathlib import Path

from PIL import Image
from sklearn.datasets import load_sample_image

FOLDER = Path(__file__).resolve().parent / "photos"
# name, source, box (left, top, right, bottom), size, mode
CUTS = [
    ("temple", "china.jpg", (60, 60, 540, 380), (240, 160), "RGB"),
    ("roof", "china.jpg", (260, 40, 480, 260), (128, 128), "L"),
    ("dahlia", "flower.jpg", (180, 20, 520, 420), (136, 160), "RGB"),
    ("petals", "flower.jpg", (200, 100, 392, 292), (160, 160), "RGB"),
]


def main():
    FOLDER.mkdir(exist_ok=True)
    for name, source, box, size, mode in CUTS:
        photo = Image.fromarray(load_sample_image(source)).crop(box).resize(size, Image.Resampling.LANCZOS)
        photo.convert(mode).save(FOLDER / f"{name}.jpg", quality=85, optimize=True)


if __name__ == "__main__":
    main()
