"""Two views of a picture on one core by lightly's BYOLTransform (torchvision on Pillow), as augment.rs times ours.

usage: python tests/bench/augment_torchvision.py      (lightly, torchvision, Pillow)
Pictures are decoded before the clock starts. Prints the median of nine rounds. lightly's crop is bilinear, ours bicubic.
"""
import pathlib
import time

import torch
from lightly.transforms.byol_transform import BYOLTransform, BYOLView1Transform, BYOLView2Transform
from PIL import Image

torch.set_num_threads(1)
data = pathlib.Path(__file__).parents[1] / "data"
photos = [Image.open(data / f"photos/{name}.jpg").convert("RGB").resize((500, 375), Image.Resampling.BICUBIC)
          for name in ("dahlia", "petals", "roof", "temple")]
clothes = [Image.open(data / f"pictures/{name}/0.png").convert("L") for name in ("bag", "sneaker", "trouser")]


def measure(what, pictures, views):
    rounds = []
    for _ in range(9):
        start, pairs = time.perf_counter(), 0
        while time.perf_counter() - start < 0.4:
            for picture in pictures:
                views(picture)
                pairs += 1
        rounds.append((time.perf_counter() - start) * 1e6 / pairs)
    rounds.sort()
    print(f"{what}: {rounds[4]:.1f} us a pair of views (fastest round {rounds[0]:.1f})")


gray = {"mean": [0.5], "std": [0.25]}
measure("photos of 500 x 375, 3 x 224 x 224, the paper's views", photos, BYOLTransform())
measure("clothes, 1 x 28 x 28, the paper's views without blur", clothes,
        BYOLTransform(BYOLView1Transform(input_size=28, gaussian_blur=0.0, normalize=gray),
                      BYOLView2Transform(input_size=28, gaussian_blur=0.0, normalize=gray)))
