"""One stage of tests/gpu/run.sh, which says what each is. The last line is `passed` where nothing was missed.

usage: stage.py STAGE BYOL DATA OUT
"""
import importlib.util
import json
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
PEER = pathlib.Path(os.environ.get("PEER", ROOT.parent / "shared/peers/pretrain_lightly.py"))
stage, byol, data, out = sys.argv[1:5]
out = pathlib.Path(out)
missed = []
# The script itself, tried where there is no GPU.
DRY = bool(os.environ.get("DRY"))
DEVICE, BACKEND = ("cpu", "gloo") if DRY else ("cuda", "nccl")


def say(text):
    print(text, flush=True)


def goal(text, reached):
    say(f"{text}: {'reached' if reached else 'MISSED'}")
    if not reached:
        missed.append(text)


class Watch:
    """Use and memory of the GPU, five times a second."""

    def __enter__(self):
        if DRY:
            self.lines = []
            return self
        command = ["nvidia-smi", "--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits", "-lms", "200"]
        self.process, self.lines = subprocess.Popen(command, stdout=subprocess.PIPE, text=True), []
        self.thread = threading.Thread(target=lambda: self.lines.extend(self.process.stdout))
        self.thread.start()
        return self

    def __exit__(self, *_):
        if not DRY:
            self.process.terminate()
            self.thread.join()
        pairs = [tuple(float(v) for v in line.split(",")) for line in self.lines if line.count(",") == 1]
        self.memory = max((m for _, m in pairs), default=float("nan"))
        # The start, and the encoder's writing at the end, are no steps.
        middle = [use for use, _ in pairs][len(pairs) // 3:-max(1, len(pairs) // 10)]
        self.use = statistics.mean(middle) if middle else float("nan")


GRAPH = "Steps run as one CUDA graph from now on."


def pretrain(folder, *arguments, says=()):
    """One run's answer. It must say what `says` holds, unless this is a dry run."""
    command = [byol, "--json", "pretrain", *map(str, arguments), "--force", "--out", str(out / folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    (out / f"{folder}.log").write_text(done.stderr)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    for sentence in () if DRY else says:
        if sentence not in done.stderr:
            goal(f"{folder} says \"{sentence}\"; it said:\n{done.stderr[-2000:]}", False)
    return json.loads(done.stdout)


def losses(folder):
    """The loss of each step that told one."""
    lines = map(json.loads, open(out / folder / "metrics.jsonl"))
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def tensors(folder):
    """The encoder's weights, one after the other: safetensors is a header of JSON and then the numbers."""
    import array

    raw = (out / folder / "encoder.safetensors").read_bytes()
    values = array.array("f")
    values.frombytes(raw[8 + int.from_bytes(raw[:8], "little"):])
    return values


def apart(a, b):
    """How far two runs' weights are from each other, as a part of their norm."""
    a, b = tensors(a), tensors(b)
    assert len(a) == len(b)
    return (sum((x - y) ** 2 for x, y in zip(a, b)) / sum(x * x for x in a)) ** 0.5


TEN_STEPS = ["--config", ROOT / "examples/demo.toml", "--data", data, "--images", 2560, "--batch-size", 256, "--steps", 10,
             "--evaluation-epochs", 0, "--seed", 0]


def compare(name, folder, with_folder, tolerance):
    """Losses of the steps that both told, which on CUDA is every tenth."""
    a, b = losses(folder), losses(with_folder)
    steps = sorted(a.keys() & b.keys())
    worst = max(abs(a[step] - b[step]) / max(abs(a[step]), 1e-3) for step in steps)
    goal(f"loss of step {steps}, {name}: relative difference {worst:.1e}, at most {tolerance}", worst < tolerance)


def parity():
    pretrain("cpu", *TEN_STEPS, "--device", "cpu")
    for precision, more, tolerance in (("float32", [], 1e-3), ("tf32", [], 5e-3), ("bf16", [], 3e-2),
                                       ("float32", ["--views-on-device"], 5e-3)):
        if DRY and precision == "tf32":
            continue
        name = " ".join([precision, *more])
        pretrain("cuda", *TEN_STEPS, "--device", DEVICE, "--precision", precision, *more, says=[GRAPH])
        compare(f"{DEVICE} in {name} against CPU", "cuda", "cpu", tolerance)
    for precision, more, tolerance in (("float32", [], 1e-3), ("bf16", [], 3e-2), ("float32", ["--activation-checkpoints"], 1e-3),
                                       ("float32", ["--optimizer", "adamw", "--learning-rate", "1e-3"], 1e-3)):
        common = [*TEN_STEPS, "--device", DEVICE, "--precision", precision, *more]
        pretrain("graph", *common, "--cuda-graph", "auto", says=[GRAPH])
        pretrain("plain", *common, "--cuda-graph", "off")
        pretrain("again", *common, "--cuda-graph", "off")
        name = " ".join([precision, *more])
        compare(f"CUDA graph against operation by operation in {name}", "graph", "plain", tolerance)
        # What two runs of the same kind differ by (convolutions add up in another order each time) is the measure.
        noise, found = apart("again", "plain"), apart("graph", "plain")
        goal(f"weights after ten steps, graph against plain in {name}: apart by {found:.1e} of their norm, at most 10 times the "
             f"{noise:.1e} of two plain runs, or 1e-5", found <= max(10 * noise, 1e-5))


def rank(folder, number, count, port, *arguments):
    """One of some ranks, begun."""
    place = dict(RANK=number, LOCAL_RANK=number, WORLD_SIZE=count, LOCAL_WORLD_SIZE=count, MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    command = [byol, "--json", "pretrain", *map(str, arguments), "--backend", BACKEND, "--force", "--out", str(out / f"{folder}")]
    log = open(out / f"{folder}.{number}.log", "w+")
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log, env={**os.environ, **{k: str(v) for k, v in place.items()}})
    process.log = pathlib.Path(log.name)
    return process


def ranks():
    device = ["--device", DEVICE] if DRY else []
    common = [*TEN_STEPS, *device, "--precision", "float32"]
    pretrain("plain", *common, "--cuda-graph", "off")
    says = [] if DRY else ["exchange sums over NCCL"]
    pretrain("one", *common, "--backend", BACKEND, says=says)
    compare(f"one rank over {BACKEND} against none", "one", "plain", 1e-3)
    gpus = 2 if DRY else len(re.findall("^GPU ", subprocess.run(["nvidia-smi", "-L"], stdout=subprocess.PIPE, text=True).stdout, re.M))
    if gpus < 2:
        say(f"two ranks over {BACKEND}: not measured, there is one GPU")
        return
    both = [rank("two", number, 2, 29601, *common) for number in (0, 1)]
    codes = [process.wait(timeout=300) for process in both]
    goal(f"two ranks over {BACKEND} end with {codes}: {both[0].log.read_text()[-1000:] if any(codes) else ''}", codes == [0, 0])
    compare(f"two ranks over {BACKEND} against none", "two", "plain", 2e-2)
    for name, sent, port in (("killed", signal.SIGKILL, 29602), ("stopped", signal.SIGSTOP, 29603)):
        # `common` says ten steps; the last of two is what counts, so these go on until they are ended.
        endless = [*common[:common.index("--steps")], *common[common.index("--steps") + 2:], "--epochs", 100000, "--checkpoint-epochs",
                   1, "--rank-timeout", 5]
        both = [rank(name, number, 2, port, *endless) for number in (0, 1)]
        checkpoint, until = out / name / "checkpoint.safetensors", time.time() + 300
        while not checkpoint.exists() and time.time() < until and both[0].poll() is None:
            time.sleep(0.1)
        both[1].send_signal(sent)
        began = time.time()
        try:
            code = both[0].wait(timeout=30)
        except subprocess.TimeoutExpired:
            code = None
            both[0].kill()
        took = time.time() - began
        both[1].kill()
        both[1].wait()
        said = "rank 1 (process" in both[0].log.read_text()
        goal(f"a rank that is {name}: rank 0 ends with {code} after {took:.1f} s, at most 15, {'and' if said else 'but does not'} name it",
             code not in (None, 0) and took < 15 and said)


def peer(large, *arguments):
    """The peer's pictures a second: loader, step, both; None where there is no lightly."""
    if importlib.util.find_spec("lightly") is None or not PEER.exists():
        return None
    source = PEER.read_text()
    if large:
        changed = source.replace("*list(resnet18(a.width).children())[:-1]", "*list(torchvision.models.resnet50().children())[:-1]")
        changed = changed.replace("8 * a.width", "2048")
        assert changed != source
        source = changed
    script = out / "peer.py"
    script.write_text(source)
    with Watch() as watch:
        done = subprocess.run([sys.executable, script, "--device", "cuda", "--bf16", "--channels-last", *map(str, arguments)],
                              stdout=subprocess.PIPE, text=True, check=True)
    words = done.stdout.split()
    return {"loader": float(words[1]), "step": float(words[4]), "together": float(words[7]), "memory": watch.memory, "use": watch.use}


def speed(large):
    size, batch, steps = (224, 256, 60) if large else (32, 512, 300)
    if DRY:
        size, batch, steps = 32, 16, 2
    pictures = data
    if large and not DRY:
        import numpy as np
        pictures = out / "synthetic"
        pictures.mkdir(exist_ok=True)
        x = np.random.default_rng(0).integers(0, 256, (4096, 224, 224), dtype=np.uint8)
        header = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in x.shape)
        (pictures / "train-images-idx3-ubyte").write_bytes(header + x.tobytes())
    encoder = ["--encoder", "resnet50"] if large else ["--encoder", "resnet18", "--stem", "small"]
    # The peer's heads and optimiser.
    file = out / "speed.toml"
    file.write_text("[projector]\nhidden = 1024\noutput = 256\n[predictor]\nhidden = 1024\noutput = 256\n"
                    "[optimizer]\nname = \"sgd\"\nbase_learning_rate = 0.06\nweight_decay = 5e-4\n")
    common = ["--config", file, "--data", pictures, *encoder, "--image-size", size, "--channels", 3, "--batch-size", batch,
              "--views", "paper" if large else "small-image", "--device", DEVICE, "--evaluation-epochs", 0,
              "--checkpoint-epochs", 0, "--on-collapse", "warn", *(["--images", 64] if DRY else [])]
    ours = {}
    for name, more in (("bf16", ["--precision", "bf16"]), ("bf16, views on the device", ["--precision", "bf16", "--views-on-device"]),
                       ("tf32", ["--precision", "auto" if DRY else "tf32"])):
        for graph in ("auto", "off"):
            variant = [*more, "--cuda-graph", graph]
            pretrain("warm", *common, *variant, "--steps", steps if DRY else 10)  # cuDNN's choices, the file cache
            with Watch() as watch:
                answer = pretrain("speed", *common, *variant, "--steps", steps, says=[GRAPH] if graph == "auto" else [])
            ours[name, graph] = answer["images_per_second"], watch.use
            say(f"byol {name}, CUDA graph {graph}: {answer['images_per_second']:.0f} pictures/s, loader and step; GPU busy {watch.use:.0f}%, "
                f"{watch.memory:.0f} MiB")
        say(f"byol {name}: with the graph {ours[name, 'auto'][0] / ours[name, 'off'][0]:.2f} times as fast as without")
    fastest = max((key for key in ours if key[0] != "tf32"), key=lambda key: ours[key][0])
    best, use = ours[fastest]
    say(f"fastest: {fastest[0]}, CUDA graph {fastest[1]}")
    if DRY:
        return
    goal(f"GPU busy {use:.0f}%, more than 95%", use > 95)
    source = ["--data", "synthetic"] if large else ["--data", data]
    for kind, more, ratio in (("eager", [], 1.5), ("compiled", ["--compile"], 1.0)):
        theirs = peer(large, *source, "--size", size, "--batch", batch, "--images", 4096 if large else 60000, "--steps",
                      12 if large else 60, "--workers", min(16, os.cpu_count() or 1), *more)
        if theirs is None:
            say(f"lightly {kind}: not measured, python3 has no lightly or {PEER.name} is not there")
            continue
        say(f"lightly {kind}: {theirs['loader']:.0f} loader, {theirs['step']:.0f} step, {theirs['together']:.0f} together; "
            f"GPU busy {theirs['use']:.0f}%, {theirs['memory']:.0f} MiB")
        # Its loader may be what is slow: the step alone is the harder peer.
        goal(f"byol / lightly {kind}, step alone: {best / theirs['step']:.2f}, at least {ratio}", best / theirs["step"] >= ratio)
        say(f"byol / lightly {kind}, together: {best / theirs['together']:.2f}")


def long():
    size = ["--epochs", 200, "--batch-size", 512, "--evaluation-epochs", 10]
    if DRY:
        size = ["--epochs", 1, "--images", 256, "--batch-size", 64, "--evaluation-epochs", 1]
    began = time.time()
    with Watch() as watch:
        answer = pretrain("long", "--config", ROOT / "examples/fashion-mnist.toml", "--data", data, *size,
                          "--device", DEVICE, "--precision", "bf16")
    say(f"{'a few steps' if DRY else '200 epochs'} of Fashion-MNIST: {time.time() - began:.0f} s, {answer['images_per_second']:.0f} pictures/s, GPU busy "
        f"{watch.use:.0f}%, {watch.memory:.0f} MiB, k-NN beside the run {answer['knn']:.4f}, probe {answer['probe']:.4f}; curve in "
        f"{answer['plot']}")
    lines = [json.loads(line) for line in open(out / "long/metrics.jsonl")]
    say("k-NN by epoch: " + ", ".join(f"{line['epoch']:.0f}: {line['knn']:.4f}" for line in lines if "knn" in line))
    # Judging needs ONNX Runtime: where the command has it beside it.
    for arguments in (["knn"], ["linear-eval", "--l2", "1e-3"]):
        done = subprocess.run([byol, "--json", "-q", arguments[0], out / "long/encoder.onnx", "--data", data, *arguments[1:]],
                              stdout=subprocess.PIPE, text=True)
        say(f"{arguments[0]}: {done.stdout.strip() if done.returncode == 0 else 'not measured here'}")


if DRY:
    say("dry run: on the CPU and over Gloo; nothing that is said here is about a GPU")
{"parity": parity, "ranks": ranks, "small": lambda: speed(False), "large": lambda: speed(True), "long": long}[stage]()
say("passed" if not missed else "missed: " + "; ".join(missed))
sys.exit(bool(missed))
