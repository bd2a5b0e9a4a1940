"""Checkpoints of a training run: an ``.npz`` of plain arrays, replaced in one move, refused for another problem."""

from __future__ import annotations

import dataclasses
import hashlib
import os

from convexnn.archive import read_checkpoint, replace_archive
from convexnn.training.loop import Session

FORMAT = "convexnn.training"
VERSION = 1
# settings that may differ between the two parts of a run
FREE = (
    "epochs",
    "patience",
    "evaluate_every",
    "time_limit",
    "device",
    "verbose",
    "callback",
    "checkpoint",
    "checkpoint_every",
)


def run_fingerprint(session: Session) -> str:
    """SHA-256 of problem, trainer, seed, start, sizes and every setting that shapes the iterates."""
    settings = dataclasses.asdict(session.options.replace(callback=None, checkpoint=None))
    fixed = {name: value for name, value in sorted(settings.items()) if name not in FREE}
    shapes = [tuple(part.shape) for pair in session.layers for part in pair]
    trainer = (session.trainer.name, session.trainer.settings())
    seed = (session.seed, session.origin) if session.origin else session.seed
    text = repr((session.problem.fingerprint(), trainer, seed, shapes, fixed))
    return hashlib.sha256(text.encode()).hexdigest()


def save_checkpoint(session: Session, path: str | os.PathLike[str]) -> None:
    """Write the state of a run; an interrupt leaves the earlier file whole."""
    state, arrays = session.state()
    header = {"format": FORMAT, "version": VERSION, "fingerprint": run_fingerprint(session), **state}
    replace_archive(path, header, arrays)


def load_checkpoint(session: Session, path: str | os.PathLike[str]) -> bool:
    """Continue from a checkpoint when there is one; say whether there was.

    Raises
    ------
    InvalidInputError
        When the file is damaged or belongs to another problem, trainer, seed, start or setting, or when there is
        no folder for it.
    """
    found = read_checkpoint(path, run_fingerprint(session), format=FORMAT, version=VERSION)
    if found is None:
        return False
    session.load(*found)
    return True
