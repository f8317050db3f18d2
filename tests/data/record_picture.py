"""Records what Pillow and torchvision make of four photographs, for tests/model.rs.

usage: python3 tests/data/record_picture.py        Needs: pillow, torchvision, numpy, safetensors.
The photographs are stored as PNG beside the result, so that no JPEG decoder is compared here.
"""
import pathlib

import numpy as np
from PIL import Image
from safetensors.numpy import save_file
from torchvision.transforms import CenterCrop, InterpolationMode, Resize

here = pathlib.Path(__file__).parent
out = here / "picture"
out.mkdir(exist_ok=True)
tensors = {}
for photo in sorted((here / "photos").glob("*.jpg"))[:2]:
    picture = Image.open(photo).convert("RGB").resize((97, 71), Image.BICUBIC)
    for name, source in ((photo.stem, picture), (photo.stem + "gray", picture.convert("L"))):
        source.save(out / f"{name}.png")
        for filter in ("bilinear", "bicubic"):
            mode = InterpolationMode(filter)
            stretched = Resize((28, 28), mode)(source)
            cropped = CenterCrop(32)(Resize(37, mode)(source))
            for rule, size, result in (("stretch", 28, stretched), ("37", 32, cropped)):
                pixels = np.asarray(result, np.float32)
                tensors[f"{name}-{rule}-{filter}-{size}"] = np.ascontiguousarray(pixels.reshape(size, size, -1))
save_file(tensors, out / "pillow.safetensors")
print(len(tensors), "results")
