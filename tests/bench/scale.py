#!/usr/bin/env python3
"""A step of BYOL on many ranks, simulated event by event: what docs/scale.md says is checked against this.

usage: scale.py [--check]      tables for docs/scale.md; --check fails where formula and simulation are apart

A rank runs its layers in order: forward, then backward from the last layer. Every BatchNorm stops a view's lane for an
exchange of its statistics (a small all-reduce: its time is latency), forward and backward; every filled bucket of
gradient leaves on the network, which sends one bucket at a time, while the backward pass goes on. The step ends when the
last bucket is back and the optimiser has run. The closed formula of docs/scale.md knows none of this order.
"""

import argparse
import random

# Networks: parameters, forward GFLOP of one picture at its size, normalised layers (encoder), layers in all.
NETWORKS = {
    "ResNet-18, 32 px": dict(parameters=11.2e6, gflop=1.11, norms=20, layers=21, picture_bytes=3072, input_px=32),
    "ResNet-50, 224 px": dict(parameters=23.5e6, gflop=8.2, norms=53, layers=54, picture_bytes=110e3, input_px=224),
    "ResNet-200 x2, 224 px": dict(parameters=250e6, gflop=180.0, norms=200, layers=201, picture_bytes=110e3, input_px=224),
}
# Projector and predictor of the paper: 4096 hidden, 256 out.
HEADS = {"ResNet-18, 32 px": 3.2e6 + 2.1e6, "ResNet-50, 224 px": 9.4e6 + 2.1e6, "ResNet-200 x2, 224 px": 17.8e6 + 2.1e6}

# Machines are assumptions, written down: arithmetic that a step reaches, and what a network card gives.
GPU = dict(name="one H100-like GPU", flops=250e12, memory_bw=2.5e12, link=40e9, latency=10e-6, per_node=8, node_link=400e9, node_latency=4e-6)
BUCKET = 8 << 20


def allreduce(size, ranks, machine):
    """Seconds of one all-reduce of `size` bytes: a ring inside machines, one between them, and a tree's latency."""
    if ranks == 1:
        return 0.0
    local = min(ranks, machine["per_node"])
    nodes = (ranks + local - 1) // local
    inside = 2 * (local - 1) / local * size / machine["node_link"]
    between = 2 * (nodes - 1) / nodes * size / (machine["link"] * local) if nodes > 1 else 0.0
    hops = [2 * (n - 1).bit_length() for n in (local, nodes)]
    return inside + between + hops[0] * machine["node_latency"] + hops[1] * machine["latency"]


def work(network, batch, machine):
    """Seconds of forward and backward of one view's lane of the online network, and of the target's forward."""
    forward = batch * network["gflop"] * 1e9 / machine["flops"]
    return forward, 2 * forward


def formula(name, ranks, batch, machine):
    """docs/scale.md: compute, what the exchange of statistics adds, what gradients add that overlap does not hide."""
    network = NETWORKS[name]
    forward, backward = work(network, batch, machine)
    compute = 2 * (2 * forward + backward)  # two views: online and target forward, online backward
    exchanges = 2 * (3 * (network["norms"] + 2) - 1)  # two views: online forward, target forward, online backward
    small = exchanges * allreduce(2 * 4 * 512, ranks, machine)
    size = 4 * (network["parameters"] + HEADS[name])
    buckets = max(1, round(size / BUCKET))
    sending = buckets * allreduce(size / buckets, ranks, machine)
    # Gradients leave during the second view's backward pass.
    hidden = min(sending * (1 - 1 / buckets), backward + small / 6)
    # Parameters read and written: LARS with momentum reads 3 and writes 2, EMA reads 2 and writes 1.
    optimiser = 8 * size / machine["memory_bw"]
    return dict(compute=compute, statistics=small, gradients=sending - hidden, optimiser=optimiser,
                step=compute + small + sending - hidden + optimiser)


def simulate(name, ranks, batch, machine, jitter=0.0, seed=0, steps=1):
    """The same step, event by event, views in turn; jitter is each rank's random delay of a piece of work."""
    network, draw = NETWORKS[name], random.Random(seed)
    forward, backward = work(network, batch, machine)
    layers = network["layers"] + 4
    norms = network["norms"] + 2
    size = 4 * (network["parameters"] + HEADS[name])
    exchange = allreduce(2 * 4 * 512, ranks, machine)

    def piece(seconds):
        # All ranks wait for the slowest at the next exchange.
        if not jitter or ranks == 1:
            return seconds * (1 + (draw.expovariate(1 / jitter) if jitter else 0.0))
        return seconds * (1 + max(draw.expovariate(1 / jitter) for _ in range(ranks)))

    total = 0.0
    for _ in range(steps):
        clock = 0.0

        def run(seconds, count_norms):
            nonlocal clock
            for layer in range(layers):
                clock += piece(seconds / layers)
                if layer < count_norms:
                    clock += exchange

        run(forward, norms)  # target, first view
        run(forward, norms)  # target, second view
        run(forward, norms)  # online, first view
        run(backward, norms - 1)
        run(forward, norms)  # online, second view
        # The second view's backward fills the buckets.
        buckets = max(1, round(size / BUCKET))
        sent, network_free = 0, 0.0
        for layer in range(layers):
            clock += piece(backward / layers)
            if layer < norms:
                clock += exchange
            # Late layers of a ResNet hold most of its parameters: three quarters lie in the last third.
            done = (layer + 1) / layers
            filled = min(1.0, done * 2.25 if done < 1 / 3 else 0.75 + (done - 1 / 3) * 0.375)
            while sent < buckets and (sent + 1) / buckets <= filled + 1e-9:
                network_free = max(network_free, clock) + allreduce(size / buckets, ranks, machine)
                sent += 1
        clock = max(clock, network_free)
        clock += 8 * size / machine["memory_bw"]
        total += clock
    return total / steps


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--check", action="store_true", help="fail where formula and simulation are apart")
    check = arguments.parse_args().check
    worst = 0.0
    for name, batch in (("ResNet-18, 32 px", 512), ("ResNet-50, 224 px", 64), ("ResNet-50, 224 px", 256),
                        ("ResNet-200 x2, 224 px", 16)):
        print(f"\n{name}, {batch} pictures a rank, {GPU['name']}")
        print("| ranks | global batch | compute ms | statistics ms | gradients ms | optimiser ms | step ms | simulated ms | efficiency | with 2% jitter |")
        print("|---|---|---|---|---|---|---|---|---|---|")
        alone = formula(name, 1, batch, GPU)["step"]
        for ranks in (1, 8, 64, 256, 1000):
            parts = formula(name, ranks, batch, GPU)
            simulated = simulate(name, ranks, batch, GPU)
            shaken = simulate(name, ranks, batch, GPU, jitter=0.02, steps=3)
            apart = abs(simulated - parts["step"]) / simulated
            worst = max(worst, apart)
            ms = " | ".join(f"{1e3 * parts[k]:.2f}" for k in ("compute", "statistics", "gradients", "optimiser", "step"))
            print(f"| {ranks} | {ranks * batch} | {ms} | {1e3 * simulated:.2f} | {alone / simulated:.2f} | {alone / shaken:.2f} |")
    print(f"\nformula and simulation are apart by at most {100 * worst:.1f}%")
    if check and worst > 0.05:
        raise SystemExit("the formula of docs/scale.md does not hold in the simulation")


if __name__ == "__main__":
    main()
