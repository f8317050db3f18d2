"""One stage of tests/gpu/run.sh, which says what each is. The last line is `passed` where nothing was missed.

usage: stage.py STAGE BYOL DATA OUT
"""
import importlib.util
import json
import os
import pathlib
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


def say(text):
    print(text, flush=True)


def goal(text, reached):
    say(f"{text}: {'reached' if reached else 'MISSED'}")
    if not reached:
        missed.append(text)


class Watch:
    """Use and memory of the GPU, five times a second."""

    def __enter__(self):
        command = ["nvidia-smi", "--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits", "-lms", "200"]
        self.process, self.lines = subprocess.Popen(command, stdout=subprocess.PIPE, text=True), []
        self.thread = threading.Thread(target=lambda: self.lines.extend(self.process.stdout))
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.thread.join()
        pairs = [tuple(float(v) for v in line.split(",")) for line in self.lines if line.count(",") == 1]
        self.memory = max((m for _, m in pairs), default=float("nan"))
        # The start, and the encoder's writing at the end, are no steps.
        middle = [use for use, _ in pairs][len(pairs) // 3:-max(1, len(pairs) // 10)]
        self.use = statistics.mean(middle) if middle else float("nan")


def pretrain(folder, *arguments):
    """One run's answer."""
    command = [byol, "-q", "--json", "pretrain", *map(str, arguments), "--force", "--out", str(out / folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}")
    return json.loads(done.stdout)


def losses(folder):
    """The loss of each step that told one."""
    lines = map(json.loads, open(out / folder / "metrics.jsonl"))
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def parity():
    common = ["--config", ROOT / "examples/demo.toml", "--data", data, "--images", 2560, "--batch-size", 256, "--steps", 10,
              "--evaluation-epochs", 0, "--seed", 0]
    pretrain("cpu", *common, "--device", "cpu")
    expected = losses("cpu")
    for precision, more, tolerance in (("float32", [], 1e-3), ("tf32", [], 5e-3), ("bf16", [], 3e-2),
                                       ("float32", ["--views-on-device"], 5e-3)):
        name = " ".join([precision, *more])
        pretrain("cuda", *common, "--device", "cuda", "--precision", precision, *more)
        found = losses("cuda")
        # CUDA reports every tenth step and the last; each is compared with the CPU's of that step.
        worst = max(abs(a - expected[step]) / max(abs(a), 1e-3) for step, a in found.items())
        goal(f"loss of step {list(found)}, CUDA in {name} against CPU: relative difference {worst:.1e}, at most {tolerance}", worst < tolerance)


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
    pictures = data
    if large:
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
              "--views", "paper" if large else "small-image", "--device", "cuda", "--evaluation-epochs", 0,
              "--checkpoint-epochs", 0, "--on-collapse", "warn"]
    ours = {}
    for name, more in (("bf16", ["--precision", "bf16"]), ("bf16, views on the device", ["--precision", "bf16", "--views-on-device"]),
                       ("tf32", ["--precision", "tf32"])):
        pretrain("warm", *common, *more, "--steps", 10)  # cuDNN's choices, the file cache
        with Watch() as watch:
            answer = pretrain("speed", *common, *more, "--steps", steps)
        ours[name] = answer["images_per_second"]
        say(f"byol {name}: {ours[name]:.0f} pictures/s, loader and step; GPU busy {watch.use:.0f}%, {watch.memory:.0f} MiB")
        if name != "tf32":
            use = watch.use
    best = max(ours["bf16"], ours["bf16, views on the device"])
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
    began = time.time()
    with Watch() as watch:
        answer = pretrain("long", "--config", ROOT / "examples/fashion-mnist.toml", "--data", data, "--epochs", 200, "--batch-size", 512,
                          "--device", "cuda", "--precision", "bf16", "--evaluation-epochs", 10)
    say(f"200 epochs of Fashion-MNIST: {time.time() - began:.0f} s, {answer['images_per_second']:.0f} pictures/s, GPU busy "
        f"{watch.use:.0f}%, {watch.memory:.0f} MiB, k-NN beside the run {answer['knn']:.4f}, probe {answer['probe']:.4f}; curve in "
        f"{answer['plot']}")
    lines = [json.loads(line) for line in open(out / "long/metrics.jsonl")]
    say("k-NN by epoch: " + ", ".join(f"{line['epoch']:.0f}: {line['knn']:.4f}" for line in lines if "knn" in line))
    # Judging needs ONNX Runtime: where the command has it beside it.
    for arguments in (["knn"], ["linear-eval", "--l2", "1e-3"]):
        done = subprocess.run([byol, "--json", "-q", arguments[0], out / "long/encoder.onnx", "--data", data, *arguments[1:]],
                              stdout=subprocess.PIPE, text=True)
        say(f"{arguments[0]}: {done.stdout.strip() if done.returncode == 0 else 'not measured here'}")


{"parity": parity, "small": lambda: speed(False), "large": lambda: speed(True), "long": long}[stage]()
say("passed" if not missed else "missed: " + "; ".join(missed))
sys.exit(bool(missed))
