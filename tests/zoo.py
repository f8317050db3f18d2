"""Weights of torchvision and timm, saved by safetensors as their users save them, load by name: what `byol export` writes
computes, in stock onnxruntime, what PyTorch computes.

usage: python tests/zoo.py FOLDER        (tests/own_encoder.sh makes the environment, and has built byol)
"""
import pathlib
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import timm
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file

ROOT = pathlib.Path(__file__).resolve().parents[1]
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
onnxruntime.set_default_logger_severity(3)


# byol's name, pixels, the library's whole model with its classifier, more of byol's flags
def models():
    v = torchvision.models
    yield "resnet18", 96, v.resnet18(), []
    yield "resnet50", 64, v.resnet50(), []
    yield "resnet18", 64, timm.create_model("resnet18"), ["--pool", "catavgmax"]
    yield "efficientnet_b0", 64, timm.create_model("efficientnet_b0"), []
    yield "tf_efficientnet_b1", 75, timm.create_model("tf_efficientnet_b1"), []
    yield "vit_tiny_patch16", 64, timm.create_model("vit_tiny_patch16_224", img_size=64), []
    yield "vit_tiny_patch4", 32, timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=4), []
    yield "convnext_tiny", 64, timm.create_model("convnext_tiny"), []
    # torchvision's own names and shapes.
    yield "efficientnet_b0", 64, v.efficientnet_b0(), []
    yield "efficientnet_b2", 64, v.efficientnet_b2(), []
    yield "convnext_tiny", 64, v.convnext_tiny(), []
    yield "vit_base_patch16", 64, v.vit_b_16(image_size=64), []
    # A position embedding of another picture size, resampled as the library does it itself.
    for before in (32, 48, 224):
        yield "vit_tiny_patch16", 64, (timm.create_model("vit_tiny_patch16_224", img_size=before), 64), []


def perturb(model):
    """Zero-initialised branches and fresh statistics would hide mistakes."""
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.75, 1.25)
            elif tensor.is_floating_point():
                tensor.add_(0.05 * torch.randn_like(tensor) if tensor.dim() == 1 else 0.01 * torch.randn_like(tensor))


def features(model, x, flags):
    """What the library computes before its classifier."""
    model = model.double().eval()
    with torch.no_grad():
        if hasattr(model, "conv_proj"):
            model.heads = torch.nn.Identity()
            return model(x)
        if hasattr(model, "avgpool") and hasattr(model, "classifier"):
            model.classifier = torch.nn.Sequential(*(m for m in model.classifier if not isinstance(m, torch.nn.Linear)))
            return model(x).flatten(1)
        if hasattr(model, "forward_head"):
            if "catavgmax" in flags:
                maps = model.forward_features(x)
                return torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1)
            return model.forward_head(model.forward_features(x), pre_logits=True)
        model.fc = torch.nn.Identity()
        return model(x)


def byol(*arguments, fails=False):
    done = subprocess.run([ROOT / "target/release/byol", "--json", *map(str, arguments)], capture_output=True, text=True)
    if (done.returncode != 0) != fails:
        sys.exit(f"byol {' '.join(map(str, arguments))}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    weights, file = folder / "weights.safetensors", folder / "encoder.onnx"
    for name, size, model, flags in models():
        resized = isinstance(model, tuple)
        if resized:
            model, to = model
        perturb(model)
        save_file(model.state_dict(), str(weights))
        classifier = [n for n in model.state_dict() if n.split(".")[0] in ("fc", "classifier", "head", "heads")
                      and "norm" not in n and n not in ("classifier.0.weight", "classifier.0.bias")]
        stem = [] if name.startswith("vit") else ["--stem", "standard"]
        said = byol("export", "--encoder", name, "--image-size", size, *stem, *flags, "--weights", weights, "-o", file)
        assert classifier and all(n in said.stderr for n in classifier), (classifier, said.stderr)
        if resized:
            assert "position embedding was resampled" in said.stderr, said.stderr
            model.set_input_size(img_size=to)
        onnx.checker.check_model(onnx.load(str(file)), full_check=True)
        pictures = [Image.open(p).convert("RGB").resize((size, size)) for p in sorted((ROOT / "tests/data/photos").glob("*.jpg"))]
        pixels = np.stack([np.asarray(p) for p in pictures])
        x = (torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()).double() / 255 - MEAN) / STD
        expected = features(model, x, flags).numpy()
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        found = session.run(None, {"image": pixels})[0]
        assert found.shape == expected.shape and expected.std() > 0
        off = np.linalg.norm(found - expected) / np.linalg.norm(expected)
        assert off < 1e-4, (name, off)
        print(f"ok  {off:.1e}  {name} {found.shape}", flush=True)

    # The last file's tensors in another network, and without one of its own.
    message = byol("export", "--encoder", "resnet18", "--weights", weights, "-o", file, fails=True).stderr
    assert "weights.safetensors" in message and "conv1.weight" in message, message
    state = timm.create_model("convnext_tiny").state_dict()
    del state["stages.2.blocks.4.gamma"]
    save_file(state, str(weights))
    message = byol("export", "--encoder", "convnext_tiny", "--image-size", 64, "--stem", "standard", "--weights", weights,
                   "-o", file, fails=True).stderr
    assert "stages.2.blocks.4.gamma" in message, message
    print("ok  a missing tensor is named")


if __name__ == "__main__":
    main()
