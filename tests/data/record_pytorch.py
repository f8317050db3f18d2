#!/usr/bin/env python3
"""Records what PyTorch and torchvision compute, for tests/pytorch_agrees.rs.

usage: record_pytorch.py        (needs torch, torchvision, safetensors; recorded with torch 2.11.0, torchvision 0.26.0)

Writes tests/data/pytorch/*.safetensors. The networks are torchvision's own residual blocks in thin networks; the
optimisers and schedules are torch.optim's, and LARS, BYOL's loss, the moving average and tau are written out from the
paper (arXiv 2006.07733) and DeepMind's description of LARS. Everything runs in float64 where only a formula is
recorded, in float32 where a network is.
"""

import copy
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

FOLDER = Path(__file__).resolve().parent / "pytorch"
STEPS = 10


class Thin(ResNet):
    """torchvision's ResNet with another width, number of stages, stem and pooling; torchvision's names."""

    def __init__(self, block, blocks, width, channels, stem, grid=1, read=None):
        nn.Module.__init__(self)
        self._norm_layer, self.inplanes, self.dilation, self.groups, self.base_width = nn.BatchNorm2d, width, 1, 1, 64
        kernel, stride = {"standard": (7, 2), "small": (3, 1), "small-stride2": (3, 2)}[stem]
        self.conv1 = nn.Conv2d(channels, width, kernel, stride, kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1) if stem == "standard" else nn.Identity()
        self.stages = len(blocks)
        for i, n in enumerate(blocks):
            setattr(self, f"layer{i + 1}", self._make_layer(block, width << i, n, stride=1 if i == 0 else 2))
        self.pool = nn.AdaptiveAvgPool2d(grid)
        self.read = read or [self.stages]
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        features = []
        for stage in range(1, self.stages + 1):
            x = getattr(self, f"layer{stage}")(x)
            if stage in self.read:
                features.append(self.pool(x).flatten(1))
        return torch.cat(features, 1)


def mlp(inputs, hidden, outputs, batch_norm=True):
    middle = nn.BatchNorm1d(hidden) if batch_norm else nn.Identity()
    return nn.Sequential(nn.Linear(inputs, hidden), middle, nn.ReLU(), nn.Linear(hidden, outputs))


def vary(module, generator):
    """Moves normalisations off their starting values, so that nothing agrees by being 0 or 1."""
    for m in module.modules():
        if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)):
            m.weight.data.uniform_(0.5, 1.5, generator=generator)
            m.bias.data.uniform_(-0.5, 0.5, generator=generator)
            m.running_mean.uniform_(-0.5, 0.5, generator=generator)
            m.running_var.uniform_(0.5, 1.5, generator=generator)


def state(module, prefix):
    return {f"{prefix}.{k}": v.clone() for k, v in module.state_dict().items() if "num_batches" not in k}


def traced(module, x):
    """Outputs of every layer and of every residual block, by our node names."""
    found, handles = {}, []

    def hook(name):
        return lambda _module, _inputs, output: found.__setitem__(name, output.detach().clone())

    for name, m in module.named_modules():
        if isinstance(m, (nn.Conv2d, nn.BatchNorm2d, nn.BatchNorm1d, nn.Linear, nn.MaxPool2d)):
            handles.append(m.register_forward_hook(hook(name)))
        if isinstance(m, (BasicBlock, Bottleneck)):
            handles.append(m.register_forward_hook(hook(f"{name}.relu")))
    found["output"] = module(x).detach().clone()
    for h in handles:
        h.remove()
    return found


def networks(g):
    """Layer outputs in training and evaluation, and running statistics after one training batch."""
    cases = {
        "resnet18_small": (Thin(BasicBlock, [2, 2, 2, 2], 4, 3, "small"), (3, 3, 16, 16)),
        "resnet18_grid_read": (Thin(BasicBlock, [1, 1], 4, 1, "small-stride2", grid=2, read=[1, 2]), (3, 1, 14, 14)),
        "resnet50_standard": (Thin(Bottleneck, [1, 1], 4, 3, "standard"), (3, 3, 32, 32)),
        "mlp": (mlp(12, 16, 8), (6, 12)),
        "mlp_plain": (mlp(12, 16, 8, batch_norm=False), (6, 12)),
    }
    out = {}
    for name, (net, shape) in cases.items():
        vary(net, g)
        x = torch.randn(shape, generator=g)
        out[f"{name}/input"] = x
        out.update(state(net, f"{name}/before"))
        with torch.no_grad():
            out.update({f"{name}/eval/{k}": v for k, v in traced(net.eval(), x).items()})
            out.update({f"{name}/train/{k}": v for k, v in traced(net.train(), x).items()})
        out.update({k: v for k, v in state(net, f"{name}/after").items() if "running" in k})
    return out


def normalise(x):
    return x * torch.rsqrt(torch.clamp((x * x).sum(1, keepdim=True), min=1e-12))


def regression(prediction, projection):
    return (2 - 2 * (normalise(prediction) * normalise(projection)).sum(1)).mean()


def byol(g):
    """One step: loss, all gradients, running statistics of both networks, SGD step, moving average."""
    encoder, projector, predictor = Thin(BasicBlock, [1, 1], 4, 1, "small-stride2"), mlp(8, 16, 6), mlp(6, 16, 6)
    for net in (encoder, projector, predictor):
        vary(net, g)
    target = [copy.deepcopy(encoder), copy.deepcopy(projector)]
    for net in target:
        for p in net.parameters():
            p.data.add_(torch.randn(p.shape, generator=g) * 0.05)
            p.requires_grad_(False)
    first, second = torch.randn(8, 1, 12, 12, generator=g), torch.randn(8, 1, 12, 12, generator=g)
    online = [("online.encoder", encoder), ("online.projector", projector), ("online.predictor", predictor)]
    followers = [("target.encoder", target[0]), ("target.projector", target[1])]
    out = {"first": first, "second": second}
    for name, net in online + followers:
        out.update(state(net.train(), f"before/{name}"))
    with torch.no_grad():
        of_first, of_second = target[1](target[0](first)), target[1](target[0](second))
    p1, p2 = predictor(projector(encoder(first))), predictor(projector(encoder(second)))
    loss = regression(p1, of_second) + regression(p2, of_first)
    loss.backward()
    out["loss"] = loss.detach()
    rate, tau = 0.1, 0.97
    for name, net in online:
        out.update({f"gradient/{name}.{k}": p.grad.clone() for k, p in net.named_parameters()})
        torch.optim.SGD(net.parameters(), lr=rate).step()
    with torch.no_grad():
        for follower, leader in zip(target, (encoder, projector)):
            for t, p in zip(follower.parameters(), leader.parameters()):
                t.mul_(tau).add_(p, alpha=1 - tau)
    for name, net in online + followers:
        out.update(state(net, f"after/{name}"))
    return out


def lars(p, g, mu, lr, momentum, decay, eta, plain):
    """One step in float64. `plain`: bias or normalisation."""
    if not plain:
        g = g + decay * p
        p_norm, g_norm = np.linalg.norm(p), np.linalg.norm(g)
        if p_norm > 0 and g_norm > 0:
            g = g * (eta * p_norm / g_norm)
    mu = momentum * mu + g
    return p - lr * mu, mu


def optimizers(g):
    """Ten steps with given gradients and a changing learning rate; biases and normalisations do not decay."""
    net = mlp(6, 8, 4)
    vary(net, g)
    names = [k for k, _ in net.named_parameters()]
    net[3].weight.data.zero_()  # LARS: no ratio where a norm is zero
    out = state(net, "before")
    gradients = [{k: torch.randn(p.shape, generator=g) for k, p in net.named_parameters()} for _ in range(STEPS)]
    gradients[3]["0.weight"].zero_()
    rates = [0.2 * (i + 1) / STEPS for i in range(STEPS)]
    for i, grads in enumerate(gradients):
        out.update({f"gradient/{i}/{k}": v for k, v in grads.items()})
    out["rates"] = torch.tensor(rates, dtype=torch.float64)
    makers = {
        "sgd": lambda groups: torch.optim.SGD(groups, momentum=0.9),
        "nesterov": lambda groups: torch.optim.SGD(groups, momentum=0.9, nesterov=True),
        "adamw": lambda groups: torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-8),
    }
    for name, make in makers.items():
        copied = copy.deepcopy(net).double()
        plain = [p for k, p in copied.named_parameters() if p.ndim == 1]
        weights = [p for k, p in copied.named_parameters() if p.ndim > 1]
        optimizer = make([{"params": weights, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}])
        for i, grads in enumerate(gradients):
            for group in optimizer.param_groups:
                group["lr"] = rates[i]
            for k, p in copied.named_parameters():
                p.grad = grads[k].double()
            optimizer.step()
            out.update({f"{name}/{i}/{k}": p.detach().float().clone() for k, p in copied.named_parameters()})
    values = {k: p.detach().double().numpy() for k, p in net.named_parameters()}
    momenta = {k: np.zeros_like(v) for k, v in values.items()}
    for i, grads in enumerate(gradients):
        for k in names:
            values[k], momenta[k] = lars(
                values[k], grads[k].double().numpy(), momenta[k], rates[i], 0.9, 0.01, 0.1, values[k].ndim == 1
            )
            out[f"lars/{i}/{k}"] = torch.from_numpy(values[k]).float()
    return out


def schedules():
    """Warm-up and cosine by torch's schedulers, tau by the paper's formula, over whole runs."""
    out = {}
    for name, (peak, warmup, steps) in {"warm": (1.6, 7, 60), "cold": (0.3, 0, 25)}.items():
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=peak)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps - warmup)
        scheduler = cosine
        if warmup:
            optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=peak)
            linear = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / warmup, 1.0, total_iters=warmup - 1)
            cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps - warmup)
            scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, [linear, cosine], [warmup])
        rates = []
        for _ in range(steps):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        out[f"rate/{name}"] = torch.tensor(rates, dtype=torch.float64)
        out[f"rate/{name}/settings"] = torch.tensor([peak, warmup, steps], dtype=torch.float64)
    for base in (0.97, 0.996):
        tau = [1 - (1 - base) * (math.cos(math.pi * k / 60) + 1) / 2 for k in range(60)]
        out[f"tau/{base}"] = torch.tensor(tau, dtype=torch.float64)
    return out


def main():
    FOLDER.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    g = torch.Generator().manual_seed(20_260)
    torch.manual_seed(20_261)
    recorded = {"networks": networks(g), "byol": byol(g), "optimizers": optimizers(g), "schedules": schedules()}
    for name, tensors in recorded.items():
        save_file({k: v.contiguous() for k, v in tensors.items()}, FOLDER / f"{name}.safetensors")
        print(f"{name}: {len(tensors)} tensors, {(FOLDER / f'{name}.safetensors').stat().st_size} bytes")


if __name__ == "__main__":
    main()
