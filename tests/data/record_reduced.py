"""Records what Pillow makes of whole photographs that byol decodes at a quarter, for tests/formats.rs.

usage: python3 tests/data/record_reduced.py        Needs: pillow, numpy, safetensors.
Short side to 14 with antialiased bicubic, the centre of 12 x 12 (torchvision's rounding): uint8 levels as float32
[12, 12, channels] in tests/data/reduced/pillow.safetensors, and beside it turned.jpg, a photograph that lies on its side.
"""
import pathlib

import numpy as np
from PIL import Image, ImageOps
from safetensors.numpy import save_file

here = pathlib.Path(__file__).parent
out = here / "reduced"
out.mkdir(exist_ok=True)
exif = Image.Exif()
exif[0x0112] = 6
temple = Image.open(here / "photos" / "temple.jpg")
temple.transpose(Image.Transpose.ROTATE_90).save(out / "turned.jpg", quality=90, exif=exif)
temple.convert("L").save(out / "gray.jpg", quality=90)
tensors = {}
for file in (here / "photos" / "temple.jpg", here / "photos" / "petals.jpg", out / "turned.jpg", out / "gray.jpg"):
    picture = ImageOps.exif_transpose(Image.open(file))
    w, h = picture.size
    w, h = (14, 14 * h // w) if w <= h else (14 * w // h, 14)
    x, y = round((w - 12) / 2), round((h - 12) / 2)
    levels = np.asarray(picture.resize((w, h), Image.BICUBIC).crop((x, y, x + 12, y + 12))).astype(np.float32)
    tensors[file.name] = levels.reshape(12, 12, -1)
save_file(tensors, out / "pillow.safetensors")
