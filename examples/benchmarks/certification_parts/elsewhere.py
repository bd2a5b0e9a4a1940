"""A peer that lives in another interpreter: SDP-FO of jax_verify, for boxes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from certification_parts.measure import Row
from certification_parts.sdp_fo import SHRINK, STAGES, STEPS, TUNED
from convexnn.propagation import Query
from convexnn.propagation.layer_bounds import crown_bounds

PUBLISHED = f"SDP-FO, jax_verify, {STEPS:,} steps"
COMPILED = f"{PUBLISHED}, without compilation"
#: Questions a case, and wall seconds for them.
QUESTIONS, PATIENCE = 2, 600.0
SCRIPT = Path(__file__).with_name("published_sdp_fo.py")


def published(case: str, queries: Sequence[Query], python: Path | None) -> tuple[list[Row], str]:
    """Both rows of the first questions, as called and without compilation, or why there are none."""
    if python is None:
        return [], f"{PUBLISHED}: not run, no interpreter was given (--sdp-fo-python)"
    ends = [int(round(share * STEPS)) for share in (0.0, *STAGES, 1.0)]
    setting = {"rate": TUNED[0], "kappa": TUNED[1], "shrink": SHRINK, "stages": np.diff(ends).tolist()}
    asked = json.dumps({"setting": setting, "questions": [_question(query) for query in queries[:QUESTIONS]]})
    try:
        done = subprocess.run(
            [str(python), str(SCRIPT)], input=asked, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        return [], f"{PUBLISHED}: no answer after {PATIENCE:.0f} s"
    except OSError as error:
        return [], f"{PUBLISHED}: the interpreter that was given does not start ({error.strerror})"
    if done.returncode != 0:
        return [], f"{PUBLISHED}: {(done.stderr.strip().splitlines() or ['no message'])[-1]}"
    return _rows(case, json.loads(done.stdout)), ""


def _question(query: Query) -> dict[str, Any]:
    """Plain numbers: the layers, the boxes of inputs and units, and the row that is maximized."""
    bounds, (*hidden, (W, b)) = crown_bounds(query), query.network.layers
    units = [
        (np.maximum(low, 0.0), np.maximum(high, 0.0)) for low, high in zip(bounds.lower, bounds.upper, strict=True)
    ]
    return {
        "layers": [[V.tolist(), c.tolist()] for V, c in hidden],
        "boxes": [[low.tolist(), high.tolist()] for low, high in [query.inputs.bounding_box(), *units]],
        "goal": (query.weights[0] @ W).tolist(),
        "constant": float(query.weights[0] @ b + query.offset[0]),
    }


def _rows(case: str, answers: list[dict[str, float]]) -> list[Row]:
    bounds = [answer["bound"] for answer in answers]
    cpu, wall = [answer["cpu"] for answer in answers], [answer["wall"] for answer in answers]
    steps = [answer["cpu"] - answer["compile_cpu"] for answer in answers]
    walls = [answer["wall"] - answer["compile_wall"] for answer in answers]
    return [
        Row(case, PUBLISHED, True, bounds, cpu, wall),
        Row(case, COMPILED, True, bounds, steps, walls),
    ]
