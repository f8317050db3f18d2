"""Records what torchvision makes of fixed pictures with fixed parameters, for tests/augmentation_agrees.rs.

usage: python tests/data/record_augment.py      (torch 2.11, torchvision 0.26, Pillow 13, safetensors)
Writes augment/cases.json and augment/cases.safetensors beside itself. Crops are recorded twice: from torchvision's
float path, and from Pillow, which rounds to bytes between its two passes.
"""
import json
import pathlib

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

here = pathlib.Path(__file__).parent / "augment"
here.mkdir(exist_ok=True)
random = np.random.default_rng(0)
tensors, cases = {}, []


def picture(height, width, channels):
    """Smooth shapes with hard edges and some noise: overshoot, clipping and every hue occur."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [128 + 127 * np.sin(x / (3 + 2 * c) + c) * np.cos(y / (5 - c) + 2 * c) for c in range(channels)]
    out = np.stack(planes, -1) + random.normal(0, 12, (height, width, channels))
    out[height // 3: height // 2, width // 4: width // 2] = 255
    out[-height // 4:, : width // 5] = 0
    return np.clip(out, 0, 255).round().astype(np.uint8)


pictures = {"rgb": picture(47, 61, 3), "gray": picture(28, 28, 1)}
bases = {}
for name, pixels in pictures.items():
    tensors[f"picture.{name}"] = torch.from_numpy(pixels).float()
    base = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
    bases[name] = F.resize(base, [24, 24], InterpolationMode.BILINEAR, antialias=True) if name == "rgb" else base
    tensors[f"base.{name}"] = bases[name].clone()


def case(source, kind, operation, out, tolerance):
    name = f"{len(cases):02}.{source}.{operation[0]}"
    cases.append({"name": name, "source": source, "kind": kind, "operation": operation, "tolerance": tolerance})
    tensors[f"out.{name}"] = out.clone().contiguous()


filters = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}
boxes = {
    "rgb": [(0, 0, 47, 61), (3, 5, 40, 33), (20, 31, 9, 13), (46, 60, 1, 1)],
    "gray": [(0, 0, 28, 28), (4, 7, 17, 20), (9, 2, 12, 9)],
}
for source, pixels in pictures.items():
    size = 24 if source == "rgb" else 28
    floats = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
    pil = Image.fromarray(pixels.squeeze())
    for filter, mode in filters.items():
        for top, left, height, width in boxes[source]:
            operation = ["crop", top, left, height, width, filter]
            out = F.resized_crop(floats, top, left, height, width, [size, size], mode, antialias=True).clamp(0, 1)
            case(source, "picture", operation, out, 2e-5)
            out = F.pil_to_tensor(F.resized_crop(pil, top, left, height, width, [size, size], mode)).float() / 255
            # Bytes between the passes: half a step of rounding each, and a cubic's overshoot is clipped twice.
            case(source, "picture", operation, out, 1.6 / 255 if filter == "bilinear" else 10 / 255)

for source, x in bases.items():
    size = x.shape[-1]
    both = lambda operation, out, tolerance=2e-6: case(source, "base", operation, out, tolerance)
    both(["flip-horizontal"], F.hflip(x))
    both(["flip-vertical"], F.vflip(x))
    for factor in (0.0, 0.6, 1.4, 3.0):
        both(["brightness", factor], F.adjust_brightness(x, factor))
        both(["contrast", factor], F.adjust_contrast(x, factor), 5e-6)
        both(["saturation", factor], F.adjust_saturation(x, factor))
    for turn in (-0.5, -0.1, 0.0, 0.07, 0.1, 0.5):
        both(["hue", turn], F.adjust_hue(x, turn), 5e-6)
    both(["grayscale"], F.rgb_to_grayscale(x, x.shape[0]))
    for kernel, sigma in ((3, 0.1), (3, 0.7), (13, 2.0), (23, 0.4), (23, 1.3), (45, 9.0)):
        both(["blur", kernel, sigma], F.gaussian_blur(x, [kernel, kernel], [sigma, sigma]))
    for threshold in (0.0, 0.5, 1.0):
        both(["solarize", threshold], F.solarize(x, threshold))
    for degrees in (-30.0, 0.0, 17.0, 90.0, 180.0):
        both(["rotate", degrees], F.rotate(x, degrees, InterpolationMode.BILINEAR), 5e-5)
    for right, down in ((0, 0), (3, -5), (-size + 1, 4)):
        both(["shift", right, down], F.affine(x, 0.0, [right, down], 1.0, [0.0, 0.0]))

# The longest chain of the paper, on one picture, with one order of the jitter.
x = torch.from_numpy(pictures["rgb"]).permute(2, 0, 1).float() / 255
x = F.hflip(F.resized_crop(x, 3, 5, 40, 33, [24, 24], InterpolationMode.BICUBIC, antialias=True).clamp(0, 1))
x = F.adjust_brightness(F.adjust_hue(F.adjust_contrast(F.adjust_saturation(x, 1.17), 0.71), -0.06), 1.31)
x = F.solarize(F.gaussian_blur(x, [3, 3], [1.1, 1.1]), 0.5)
tensors["out.chain"] = x.contiguous()

(here / "cases.json").write_text(json.dumps(cases, indent=0) + "\n")
save_file(tensors, here / "cases.safetensors")
print(len(cases), "cases")
