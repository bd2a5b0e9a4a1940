"""Checkpoints of the safe trainers: an ``.npz`` of plain arrays, replaced in one move, refused for another problem."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from typing import TYPE_CHECKING

import numpy as np

from convexnn.archive import read_checkpoint, replace_archive

if TYPE_CHECKING:
    from convexnn.training.region_loop import RegionRun

FORMAT = "convexnn.region_training"
VERSION = 1
# settings that may differ between the two parts of a run
FREE = (
    "time_limit", "device", "verbose", "callback", "checkpoint", "checkpoint_every", "evaluate_every", "random_state",
    "arithmetic", "finish", "finish_seconds",
)  # fmt: skip
MOMENTS = ("exp_avg", "exp_avg_sq")


def run_fingerprint(run: RegionRun) -> str:
    """SHA-256 of regions, samples, seed, sizes and every setting that shapes the iterates."""
    settings = dataclasses.asdict(run.options.replace(callback=None, checkpoint=None, random_state=None))
    fixed = {name: value for name, value in sorted(settings.items()) if name not in FREE}
    digest = hashlib.sha256()
    for array in (run.frame.center, run.frame.inverse, *run.model.fixed()):
        digest.update(repr(array.shape).encode() + np.ascontiguousarray(array).tobytes())
    for ball in run.frame.balls:
        digest.update(repr([None if part is None else part.tolist() for part in (ball.map, ball.shift)]).encode())
    text = repr((run.samples.fingerprint(), run.seed, run.rate, fixed))
    digest.update(text.encode())
    return digest.hexdigest()


def save_region_checkpoint(run: RegionRun, path: str | os.PathLike[str]) -> None:
    """Write the state of a run; an interrupt leaves the earlier file whole."""
    arrays = {f"now_{name}": value for name, value in run.model.snapshot().items()}
    arrays |= {f"best_{name}": value for name, value in run.best[1].items()}
    for name in run.model.parameters:
        state = run.optimizer.state.get(run.model.parameters[name], {})
        arrays |= {f"{moment}_{name}": state[moment].double().cpu().numpy() for moment in MOMENTS if moment in state}
    header = {
        "format": FORMAT,
        "version": VERSION,
        "fingerprint": run_fingerprint(run),
        "step": run.step,
        "seconds": run.seconds,
        "loss": run.loss,
        "best": run.best[0],
        "history": run.history,
        "rng": run.rng.bit_generator.state,
    }
    replace_archive(path, header, arrays)


def load_region_checkpoint(run: RegionRun, path: str | os.PathLike[str]) -> bool:
    """Continue from a checkpoint when there is one; say whether there was.

    Raises
    ------
    InvalidInputError
        When the file is damaged or belongs to other regions, samples, settings, sizes or another seed, or when there
        is no folder for it.
    """
    import torch

    found = read_checkpoint(path, run_fingerprint(run), format=FORMAT, version=VERSION)
    if found is None:
        return False
    header, arrays = found
    run.model.write({name: arrays[f"now_{name}"] for name in run.model.parameters})
    run.best = float(header["best"]), {name: arrays[f"best_{name}"] for name in run.model.parameters}
    run.step, run.before, run.loss = int(header["step"]), float(header["seconds"]), float(header["loss"])
    run.history = [dict(row) for row in header["history"]]
    run.rng.bit_generator.state = header["rng"]
    for name in run.model.parameters if run.step else ():
        parameter = run.model.parameters[name]
        moments = {moment: torch.as_tensor(arrays[f"{moment}_{name}"], **run.model.like) for moment in MOMENTS}
        run.optimizer.state[parameter] = {"step": torch.tensor(float(run.step)), **moments}
    return True
