"""TensorBoard's own reader must find in a run's event files what its metrics.jsonl says.

usage: tensorboard_reads.py RUN
"""
import json
import pathlib
import struct
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

TAGS = {
    "train/loss": "loss", "train/learning_rate": "learning_rate", "train/tau": "tau",
    "embeddings/spread": "embedding_std", "embeddings/cosine": "cosine",
    "embeddings/effective_rank": "effective_rank", "evaluation/knn": "knn", "evaluation/probe": "probe",
}


def single(value):
    """As a float32 holds it."""
    return struct.unpack("f", struct.pack("f", value))[0]


def main():
    run = pathlib.Path(sys.argv[1])
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    files = sorted(run.glob("events.out.tfevents.*"))
    events = EventAccumulator(str(run), size_guidance={"scalars": 0})
    events.Reload()
    for tag, key in TAGS.items():
        expected = [(line["step"], single(line[key])) for line in lines if key in line]
        found = [(event.step, event.value) for event in events.Scalars(tag)]
        if not expected or found != expected:
            sys.exit(f"{tag}: {len(found)} scalars, {len(expected)} lines; first difference "
                     f"{next((pair for pair in zip(found, expected) if pair[0] != pair[1]), None)}")
    print(f"{len(files)} event files, {len(lines)} lines: TensorBoard reads every figure of {len(TAGS)} kinds")


if __name__ == "__main__":
    main()
