"""Records what the encoders of torchvision, timm and fastai compute, for tests/zoo.rs.

usage: python record_zoo.py [FAMILY...]       with torch, torchvision, timm (tests/own_encoder.txt) and fastai 2.8.12
Writes zoo/pictures.safetensors (two photographs, normalised) and zoo/FAMILY.safetensors: the features of each model, in
evaluation mode, and as metadata `cases` the configuration that byol builds it from. Weights are no file: each value
follows from its tensor's name, its place and its shape (`fill`), here and in tests/zoo.rs, so that a tensor of another
name, shape or order gives other features.
"""
import json
import math
import pathlib
import sys

import numpy as np
import timm
import torch
import torchvision
from PIL import Image
from safetensors.numpy import save_file
from timm.layers import SelectAdaptivePool2d, StdConv2d
from torch import nn

FOLDER = pathlib.Path(__file__).parent / "zoo"
SIZE = 64
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def pictures():
    def one(name):
        picture = Image.open(FOLDER.parent / "photos" / f"{name}.jpg").convert("RGB").resize((SIZE, SIZE), Image.BICUBIC)
        return ((np.asarray(picture) / 255 - MEAN) / STD).transpose(2, 0, 1)
    x = np.ascontiguousarray(np.stack([one("dahlia"), one("temple")]), np.float32)  # safetensors writes memory as it lies
    save_file({"input": x}, FOLDER / "pictures.safetensors")
    return x


def uniform(name, n):
    """n numbers in [0, 1), multiples of 2^-24: SplitMix64 from the FNV-1a hash of the name."""
    state = 0xCBF29CE484222325
    for byte in name.encode():
        state = (state ^ byte) * 0x100000001B3 % 2**64
    with np.errstate(over="ignore"):
        z = np.uint64(state) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(40)).astype(np.float32) / np.float32(2**24)


def fill(name, shape):
    u = uniform(name, math.prod(shape))
    if name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
        low, width = 0.75, 0.5
    elif name.endswith("gamma"):
        low, width = 0.25, 0.5
    elif name == "gem.p":
        low, width = 2.5, 1.0
    elif len(shape) == 1:
        low, width = -0.125, 0.25
    elif shape[0] == 1 and len(shape) == 3:  # class token, position embedding
        low, width = -0.5, 1.0
    else:
        # SiLU and gates weaken what passes EfficientNet's convolutions, all called conv_something.
        strength = 6.25 if "conv_" in name else 3
        bound = np.float32(math.sqrt(strength / math.prod(shape[1:])))
        return ((u * np.float32(2) - np.float32(1)) * bound).reshape(shape)
    return (u * np.float32(width) + np.float32(low)).reshape(shape)


def features(model, x):
    """Of a model without its classifier, with every tensor filled."""
    tensors = {}
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            tensors[name] = torch.from_numpy(fill(name, tuple(tensor.shape)))
        else:
            tensors[name] = tensor
    model.load_state_dict(tensors)
    with torch.no_grad():
        # In float64: what float32 would lose is not the reference's to lose.
        return model.double().eval()(torch.from_numpy(x).double()).flatten(1).float().numpy()


def headless(model):
    model.fc = nn.Identity()
    return model


def standardised(model):
    """GroupNorm is there already; every convolution's weights are standardised."""
    for parent in list(model.modules()):
        for name, conv in list(parent.named_children()):
            if isinstance(conv, nn.Conv2d):
                setattr(parent, name, StdConv2d(conv.in_channels, conv.out_channels, conv.kernel_size[0],
                                                conv.stride[0], conv.padding[0], bias=False))
    return model


class Wide(torchvision.models.ResNet):
    """Every channel count multiplied, as in the BYOL paper."""

    def __init__(self, block, blocks, factor):
        super().__init__(block, blocks)
        self.inplanes = 64 * factor
        self.conv1 = nn.Conv2d(3, self.inplanes, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(self.inplanes)
        for i, n in enumerate(blocks):
            setattr(self, f"layer{i + 1}", self._make_layer(block, (64 << i) * factor, n, stride=1 if i == 0 else 2))


class GeM(nn.Module):
    def __init__(self):
        super().__init__()
        self.p = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return x.clamp(min=1e-6).pow(self.p).mean((2, 3)).pow(1 / self.p)


class Map(nn.Module):
    """A torchvision ResNet up to its last map, with its own names."""

    def __init__(self, model):
        super().__init__()
        for name, child in model.named_children():
            if name not in ("avgpool", "fc"):
                self.add_module(name, child)

    def forward(self, x):
        for child in self.children():
            x = child(x)
        return x


class Pooled(Map):
    def __init__(self, model, pool):
        super().__init__(model)
        self.gem = pool  # what byol calls it


def with_pool(pool):
    return Pooled(torchvision.models.resnet18(), pool)


def resnet():
    v = torchvision.models
    for name in ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]:
        yield dict(name=name), headless(getattr(v, name)())
    yield dict(name="resnet200"), timm.create_model("resnet200", num_classes=0)
    yield dict(name="resnet50", width=128), headless(Wide(v.resnet.Bottleneck, [3, 4, 6, 3], 2))
    group = headless(standardised(v.resnet18(norm_layer=lambda channels: nn.GroupNorm(32, channels))))
    yield dict(name="resnet18", norm="group"), group
    one = headless(v.resnet18())
    one.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    yield dict(name="resnet18", channels=1), one


def xresnet():
    def body(model, kept=-3):  # without pooling, or without the layers behind it
        return nn.Sequential(*list(model)[:kept])
    from fastai.layers import AdaptiveConcatPool2d
    from fastai.vision.models import xresnet as x
    for name in ["xresnet18", "xresnet34", "xresnet50"]:
        yield dict(name=name), body(getattr(x, name)())
    yield dict(name="xresnet50", image_size=50), body(x.xresnet50())  # odd maps: pooling in ceil mode
    yield dict(name="xresnet18", pool="catmaxavg"), nn.Sequential(*body(x.xresnet18(), -4), AdaptiveConcatPool2d())
    yield dict(name="xresnet18", channels=5), body(x.xresnet18(c_in=5))


def efficientnet():
    for name in [f"{tf}efficientnet_b{i}" for tf in ("", "tf_") for i in range(4)]:
        yield dict(name=name), timm.create_model(name, num_classes=0)
    for name in ["efficientnet_b0", "tf_efficientnet_b0"]:
        yield dict(name=name, image_size=50), timm.create_model(name, num_classes=0)


def vit():
    for size in ["tiny", "small", "base"]:
        yield dict(name=f"vit_{size}_patch16"), timm.create_model(f"vit_{size}_patch16_224", img_size=SIZE, num_classes=0)
    small = dict(img_size=32, patch_size=4, num_classes=0)
    yield dict(name="vit_tiny_patch4", image_size=32), timm.create_model("vit_tiny_patch16_224", **small)
    for pool, theirs in [("average", "avg"), ("max", "max")]:
        model = timm.create_model("vit_tiny_patch16_224", global_pool=theirs, **small)
        yield dict(name="vit_tiny_patch4", image_size=32, pool=pool), model


def convnext():
    yield dict(name="convnext_tiny"), timm.create_model("convnext_tiny", num_classes=0)
    model = timm.create_model("convnext_tiny", num_classes=0, in_chans=2, depths=(1, 2, 1, 1))
    yield dict(name="convnext_tiny", channels=2, blocks=[1, 2, 1, 1]), model


def pooling():
    yield dict(name="resnet18", pool="catavgmax"), with_pool(SelectAdaptivePool2d(pool_type="catavgmax"))
    yield dict(name="resnet18", pool="max"), with_pool(SelectAdaptivePool2d(pool_type="max"))
    yield dict(name="resnet18", pool="gem"), with_pool(GeM())
    yield dict(name="resnet18", pool="grid2"), with_pool(nn.AdaptiveAvgPool2d(2))


FAMILIES = {f.__name__: f for f in [resnet, xresnet, efficientnet, vit, convnext, pooling]}


def main():
    FOLDER.mkdir(exist_ok=True)
    x = pictures()
    for family in sys.argv[1:] or FAMILIES:
        tensors, cases = {}, []
        for config, model in FAMILIES[family]():
            channels, size = config.get("channels", 3), config.setdefault("image_size", SIZE)
            # Beyond three channels: the same ones again.
            given = x[:, [c % 3 for c in range(channels)], :size, :size]
            found = features(model, np.ascontiguousarray(given))
            name = str(len(cases))
            assert np.isfinite(found).all() and found.std() > 1e-3, (config, found.std())
            assert np.abs(found[0] - found[1]).max() > 1e-3 * np.abs(found).max(), config
            tensors[name] = found
            cases.append(config)
            print(family, config, found.shape, f"{np.abs(found).mean():.3g}", flush=True)
        save_file(tensors, FOLDER / f"{family}.safetensors", metadata={"cases": json.dumps(cases)})


if __name__ == "__main__":
    main()
