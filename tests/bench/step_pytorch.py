"""BYOL's step alone in PyTorch, as its users write it, as step.rs times ours.

usage: python tests/bench/step_pytorch.py [THREADS=2] [channels_last]      (torch, torchvision)
The same networks, batches and optimiser; views are resident. Eager, one forward a view, torch.optim.SGD.
"""
import copy
import pathlib
import resource
import sys
import time

import torch
import torch.nn.functional as F
from torchvision.models.resnet import BasicBlock

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "data"))
from record_pytorch import Thin, mlp  # noqa: E402

torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
last = "channels_last" in sys.argv


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def measure(what, encoder, dimension, shape, batch, steps):
    online = torch.nn.Sequential(encoder, mlp(dimension, 512, 128))
    predictor = mlp(128, 512, 128)
    x = ((torch.arange(batch * shape[0] * shape[1] * shape[2]) * 7919 % 1000).float() - 500).div(290).view(batch, *shape)
    if last:
        online, x = online.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    target = copy.deepcopy(online)
    for p in target.parameters():
        p.requires_grad_(False)
    parameters = [*online.parameters(), *predictor.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.01, momentum=0.9, weight_decay=1e-5)

    def step():
        with torch.no_grad():
            z1, z2 = target(x), target(x)
        p1, p2 = predictor(online(x)), predictor(online(x))
        loss = (2 - 2 * F.cosine_similarity(p1, z2)).mean() + (2 - 2 * F.cosine_similarity(p2, z1)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for t, p in zip(target.parameters(), online.parameters()):
                t.lerp_(p, 0.01)
        return loss.item()

    for _ in range(3):
        step()
    rounds = []
    for _ in range(5):
        start, cpu = time.perf_counter(), cpu_seconds()
        for _ in range(steps):
            step()
        rounds.append(((cpu_seconds() - cpu) * 1000 / (steps * batch), steps * batch / (time.perf_counter() - start)))
    rounds.sort()
    print(f"{what}: {max(r[1] for r in rounds):.0f} pictures/s, {rounds[2][0]:.3f} CPU seconds of 1000 pictures", flush=True)


demo = Thin(BasicBlock, [1, 1], 16, 1, "small-stride2", grid=4)
measure("demo's encoder, batch 64", demo, 512, (1, 28, 28), 64, 150)
narrow = Thin(BasicBlock, [2, 2, 2, 2], 16, 1, "small-stride2")
measure("ResNet-18 of width 16 at 28 pixels, batch 256", narrow, 128, (1, 28, 28), 256, 20)
full = Thin(BasicBlock, [2, 2, 2, 2], 64, 3, "small")
measure("ResNet-18 at 32 pixels, batch 64", full, 512, (3, 32, 32), 64, 4)
