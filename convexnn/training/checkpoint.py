"""Checkpoints of a training run: an ``.npz`` of plain arrays, replaced in one move, refused for another problem."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path

from convexnn.archive import read_archive, write_archive
from convexnn.exceptions import InvalidInputError
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
    target = Path(path)
    part = target.with_name(target.name + ".part")
    write_archive(part, header, arrays)
    os.replace(part, target)


def load_checkpoint(session: Session, path: str | os.PathLike[str]) -> bool:
    """Continue from a checkpoint when there is one; say whether there was.

    Raises
    ------
    InvalidInputError
        When the file is damaged or belongs to another problem, trainer, seed, start or setting, or when there is
        no folder for it.
    """
    try:
        header, arrays = read_archive(path, format=FORMAT, version=VERSION)
    except FileNotFoundError:
        if not Path(path).parent.is_dir():  # said before the work, not after it
            raise InvalidInputError(f"The folder of the checkpoint {path} does not exist; create it first.") from None
        return False
    if header.get("fingerprint") != run_fingerprint(session):
        raise InvalidInputError(
            f"The checkpoint {path} belongs to a run with other data, settings, sizes, seed or start; "
            "delete it or choose another path."
        )
    session.load(header, arrays)
    return True
