#!/usr/bin/env python3
"""Runs that are killed at random moments and resumed must end with the weights of the run that nobody disturbed.

usage: kill.py BYOL [RUNS] [SEED]        (6 runs by default; docs/results.md records 50)

One undisturbed run first. Each other run is killed with SIGKILL some milliseconds after a random step and resumed, one to
three times, then left to finish. A checkpoint is written at every step, so that some kills fall into a write; each second
run changes the interval of its checkpoints when it resumes. After each kill the checkpoint that is there must be whole, and
the resumed run has to begin after its step.
Compared are the SHA-256 of all five networks' weights and of encoder.onnx.

Then a full disk while checkpointing, by a limit on the size of files: an error that names the checkpoint, exit code 1, the
previous checkpoint kept, nothing half-written, and a resumed run that ends as the undisturbed one.
Standard library only; Linux.
"""
import hashlib
import json
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STEPS = 24
SETTINGS = f"""
seed = 5
steps = {STEPS}
batch_size = 32
evaluation_epochs = 1
evaluation_k = 5
checkpoint_epochs = 0.05
device = "cpu"
threads = 2
views = "small-image"
[data]
path = "examples/data/fashion-mnist"
images = 640
mean = [0.286]
std = [0.353]
[encoder]
stem = "small-stride2"
width = 8
blocks = [1, 1]
channels = 1
image_size = 28
pool = "grid2"
[projector]
hidden = 512
output = 64
[predictor]
hidden = 512
output = 64
"""
FILES = ["encoder.safetensors", "projector.safetensors", "predictor.safetensors", "target_encoder.safetensors",
         "target_projector.safetensors", "encoder.onnx"]


def hashes(folder):
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES}


def command(byol, folder, resume, *more):
    start = ["--resume"] if resume else ["--config", str(folder.parent / "run.toml")]
    return [byol, "--json", "pretrain", "--out", str(folder), *start, *more]


def finish(byol, folder, resume, *more, **options):
    return subprocess.run(command(byol, folder, resume, *more), cwd=ROOT, text=True, capture_output=True, **options)


def resumed_at(stderr):
    for line in stderr.splitlines():
        if line.startswith("Resuming after step "):
            return int(line.split()[3])
    return None


def position(folder):
    """The step of a checkpoint, from its own header; None where there is none."""
    try:
        with open(folder / "checkpoint.safetensors", "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
    except FileNotFoundError:
        return None
    return json.loads(header["__metadata__"]["progress"])["step"]


def steps_done(folder):
    """Lines of the metrics: steps, and a few evaluations."""
    try:
        return (folder / "metrics.jsonl").read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def kill_once(byol, folder, chance, resume, more):
    """Starts or resumes, and kills after a random step. False where the run had ended before."""
    child = subprocess.Popen(command(byol, folder, resume, *more), cwd=ROOT, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
    at = chance.randint((position(folder) or 0) + 1, STEPS - 1)
    while steps_done(folder) < at and child.poll() is None:
        time.sleep(0.002)
    time.sleep(chance.uniform(0, 0.05))
    child.send_signal(signal.SIGKILL)
    return child.wait() == -signal.SIGKILL


def killed_runs(byol, runs, chance, expected, base):
    kills = in_write = 0
    for number in range(runs):
        folder = base / f"run{number}"
        wanted = chance.randint(1, 3)
        killed = 0
        while killed < wanted and (position(folder) or 0) < STEPS - 1:
            resume = position(folder) is not None
            if not resume and folder.exists():
                # Killed before its first checkpoint: it begins again.
                shutil.rmtree(folder)
            more = ["--checkpoint-epochs", chance.choice(["0.05", "0.2", "1"])] if resume and number % 2 else []
            if kill_once(byol, folder, chance, resume, more):
                killed += 1
                in_write += any(True for _ in folder.glob(".byol-*.part"))
            elif killed == 0:
                # It had ended: nothing was shown, so the run does not count.
                shutil.rmtree(folder)
        kills += killed
        saved = position(folder)
        if saved is None:
            shutil.rmtree(folder)
        done = finish(byol, folder, saved is not None)
        if done.returncode != 0:
            sys.exit(f"run {number}: exit code {done.returncode}\n{done.stderr}")
        if saved is not None and resumed_at(done.stderr) != saved:
            sys.exit(f"run {number}: the checkpoint was of step {saved}\n{done.stderr}")
        if hashes(folder) != expected:
            sys.exit(f"run {number}: other weights than the undisturbed run's: {folder}")
        left = [path.name for path in folder.glob(".byol-*")]
        if left:
            sys.exit(f"run {number}: left behind {left}")
        print(f"run {number}: {killed} kills, last resumed after step {saved or 0}, equal", flush=True)
    print(f"{runs} runs, {kills} kills, {in_write} of them in the middle of a write: all ended equal")


def full_disk(byol, expected, base):
    folder = base / "full"
    more = ["--checkpoint-epochs", "1"]
    child = subprocess.Popen(command(byol, folder, False), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while position(folder) is None and child.poll() is None:
        time.sleep(0.02)
    child.kill()
    child.wait()
    saved, before = position(folder), (folder / "checkpoint.safetensors").read_bytes()

    def small_files():
        limit = len(before) // 2
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    # Python ignores SIGXFSZ, and lets the child inherit that: a write then fails with EFBIG, as it would with ENOSPC.
    failed = finish(byol, folder, True, *more, preexec_fn=small_files, restore_signals=False)
    if failed.returncode != 1 or "checkpoint.safetensors" not in failed.stderr or "anicked" in failed.stderr:
        sys.exit(f"a full disk: exit code {failed.returncode}\n{failed.stderr}")
    if (folder / "checkpoint.safetensors").read_bytes() != before:
        sys.exit("a full disk: the previous checkpoint is gone")
    if list(folder.glob(".byol-*")):
        sys.exit("a full disk: a half-written file is left")
    done = finish(byol, folder, True)
    if done.returncode != 0 or hashes(folder) != expected:
        sys.exit(f"a full disk: the resumed run ended otherwise\n{done.stderr}")
    print(f"a full disk: {failed.stderr.strip().splitlines()[-1]}\nresumed after step {saved}: equal")


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    byol = str(Path(sys.argv[1]).resolve())
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 6
    chance = random.Random(int(sys.argv[3]) if len(sys.argv) > 3 else 0)
    with tempfile.TemporaryDirectory() as place:
        base = Path(place)
        (base / "run.toml").write_text(SETTINGS)
        began = time.monotonic()
        done = finish(byol, base / "whole", False)
        seconds = time.monotonic() - began
        if done.returncode != 0:
            sys.exit(done.stderr)
        expected = hashes(base / "whole")
        print(f"undisturbed: {seconds:.1f} s, encoder.safetensors {expected['encoder.safetensors'][:16]}", flush=True)
        killed_runs(byol, runs, chance, expected, base)
        full_disk(byol, expected, base)


if __name__ == "__main__":
    main()
