"""Exports real timm models in training mode, and records what they compute.

usage: python record_own_encoder.py FOLDER [NAME...]      (tests/own_encoder.sh makes the environment)
Per model: NAME.onnx, as docs/own-encoder.md says to export it, and NAME.safetensors with `input` [16, 3, h, w],
`evaluation` (features by stock onnxruntime on the file with its BatchNorm in evaluation mode), `training` (features by
PyTorch in training mode, in float64) and `training_error` (how far PyTorch's own float32 is from that, |a - b| / |b|, in
the worse of two orders of memory: small batches make some models ill-conditioned). Weights are random, running statistics as after two batches.
"""
import copy
import pathlib
import sys
import warnings

import onnx
import onnxruntime
import timm
import torch
from safetensors.torch import save_file

# name: (pixels, arguments of timm.create_model): one of each family, small ones.
MODELS = {
    "resnet10t": (64, {}),
    "regnety_002": (64, {}),
    "mobilenetv3_small_050": (64, {}),
    "efficientnet_b0": (64, {}),
    "tf_efficientnetv2_b0": (64, {}),
    "convnext_atto": (64, {}),
    "vit_tiny_patch16_224": (64, {"img_size": 64}),
    "deit_tiny_distilled_patch16_224": (64, {"img_size": 64}),
    "densenet121": (64, {}),
    "mobileone_s0": (64, {}),
    "repvgg_a0": (64, {}),
    "mixer_s32_224": (64, {"img_size": 64}),
}


def export(model, x, path):
    torch.onnx.export(
        model, (x,), str(path), dynamo=False, opset_version=17, training=torch.onnx.TrainingMode.TRAINING,
        do_constant_folding=False, input_names=["image"], output_names=["features"],
        dynamic_axes={"image": {0: "n"}, "features": {0: "n"}})


def in_evaluation_mode(path):
    """Stock onnxruntime refuses BatchNorm in training mode: the same file with that switched off."""
    model = onnx.load(str(path))
    for node in model.graph.node:
        if node.op_type == "BatchNormalization":
            for attribute in node.attribute:
                if attribute.name == "training_mode":
                    attribute.i = 0
            del node.output[1:]
    return model.SerializeToString()


def record(name, folder):
    pixels, arguments = MODELS[name]
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, num_classes=0, **arguments).train()
    x = torch.randn(16, 3, pixels, pixels)
    with torch.no_grad():
        # Zero-initialised branches and fresh statistics would hide mistakes.
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        for _ in range(2):
            model(torch.randn(16, 3, pixels, pixels))
    path = folder / f"{name}.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        export(model, x[:2], path)
    with torch.no_grad():
        # Both orders of memory: byol trains channels-last, where PyTorch's BatchNorm sums in float32; otherwise in float64.
        layouts = [torch.contiguous_format, torch.channels_last]
        single = [copy.deepcopy(model).to(memory_format=f).train()(x.to(memory_format=f)).double() for f in layouts]
        training = model.double().train()(x.double())
        error = max((y - training).norm() / training.norm() for y in single)
        print(name, *(f"{(y - training).norm() / training.norm():.1e}" for y in single))
    session = onnxruntime.InferenceSession(in_evaluation_mode(path), providers=["CPUExecutionProvider"])
    evaluation = torch.from_numpy(session.run(None, {"image": x.numpy()})[0])
    save_file({"input": x, "evaluation": evaluation, "training": training.float().contiguous(),
               "training_error": error.float().reshape(1)},
              str(folder / f"{name}.safetensors"))
    print(name, tuple(evaluation.shape), f"{path.stat().st_size / 1e6:.1f} MB", flush=True)


if __name__ == "__main__":
    target = pathlib.Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[2:] or MODELS:
        record(name, target)
