"""Records what Pillow decodes from a small photograph in every format and form, for tests/formats.rs.

usage: python3 tests/data/record_formats.py        Needs: pillow, numpy, safetensors.
Writes tests/data/formats/NAME.ENDING and pillow.safetensors: uint8 levels as float32 [height, width, channels]. Pictures of
16 bits are what Pillow or, for colour, the made values say, times 255 / 65535, rounded.
"""
import pathlib

import numpy as np
from PIL import Image, ImageOps
from safetensors.numpy import save_file

here = pathlib.Path(__file__).parent
out = here / "formats"
out.mkdir(exist_ok=True)
photo = Image.open(sorted((here / "photos").glob("*.jpg"))[0]).convert("RGB").resize((23, 17), Image.BICUBIC)
gray = photo.convert("L")
alpha = Image.fromarray(np.tile(np.linspace(0, 255, 23).astype(np.uint8), (17, 1)))
rgba = photo.copy()
rgba.putalpha(alpha)
gray_alpha = gray.copy()
gray_alpha.putalpha(alpha)
palette = photo.quantize(64)
cmyk = photo.convert("CMYK")
tensors = {}


def write(name, picture, **options):
    file = out / name
    picture.save(file, **options)
    shown = ImageOps.exif_transpose(Image.open(file))
    if shown.mode.startswith("I"):
        levels = np.rint(np.asarray(shown).astype(np.float64) * 255 / 65535)
    else:
        # Gray stays one channel, also where it comes with alpha; all else becomes RGB.
        levels = np.asarray(shown.convert("L" if shown.mode in ("1", "L", "LA") else "RGB"))
    tensors[name] = np.ascontiguousarray(levels.astype(np.float32).reshape(levels.shape[0], levels.shape[1], -1))


for size, sampling in (("444", 0), ("422", 1), ("420", 2)):
    write(f"{size}.jpg", photo, quality=90, subsampling=sampling)
write("progressive.jpg", photo, quality=90, progressive=True)
write("gray.jpg", gray, quality=90)
write("cmyk.jpg", cmyk, quality=90)
for orientation in range(1, 9):
    exif = Image.Exif()
    exif[0x0112] = orientation
    write(f"orientation{orientation}.jpg", photo, quality=90, exif=exif)
write("rgb.png", photo)
write("gray.png", gray)
write("gray_alpha.png", gray_alpha)
write("rgba.png", rgba)
write("palette.png", palette)
write("palette_transparent.png", palette, transparency=3)
write("one_bit.png", gray.convert("1"))
wide = (np.asarray(gray).astype(np.uint32) * 257 + np.arange(23) * 3).clip(0, 65535).astype(np.uint16)
write("gray16.png", Image.fromarray(wide))
write("gray16.tif", Image.fromarray(wide))
write("lossless.webp", photo, lossless=True)
write("lossy.webp", photo, quality=90)
write("lossless_alpha.webp", rgba, lossless=True, exact=True)
write("lossy_alpha.webp", rgba, quality=90)
write("rgb.bmp", photo)
write("rgba.bmp", rgba)
write("palette.bmp", palette)
write("gray.bmp", gray)
write("one_bit.bmp", gray.convert("1"))
write("palette.gif", palette)
write("animated.gif", palette, save_all=True, append_images=[palette.rotate(180)], duration=100, loop=0)
for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
    options = {"quality": 90} if compression == "jpeg" else {}
    write(f"{compression}.tif", photo, compression=compression, **options)
write("gray.tif", gray)
write("rgba.tif", rgba)
write("cmyk.tif", cmyk)
write("palette.tif", palette)
save_file(tensors, out / "pillow.safetensors")
print(len(tensors), "pictures,", sum(f.stat().st_size for f in out.iterdir()), "bytes")
