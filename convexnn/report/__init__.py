"""Tables of stages and of robustness as values, and how they are written: text, rich, Markdown, CSV."""

from convexnn.certificates.robustness import RobustnessTable, robustness_table
from convexnn.report.sheet import Sheet, to_csv, to_markdown, to_rich, to_text, transposed
from convexnn.report.stages import (
    TRUTHS,
    Stage,
    StageRow,
    StageTable,
    robustness_sheet,
    stage_sheet,
    stage_table,
)

__all__ = [
    "TRUTHS",
    "RobustnessTable",
    "Sheet",
    "Stage",
    "StageRow",
    "StageTable",
    "robustness_sheet",
    "robustness_table",
    "stage_sheet",
    "stage_table",
    "to_csv",
    "to_markdown",
    "to_rich",
    "to_text",
    "transposed",
]
