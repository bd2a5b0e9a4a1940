"""Tables of stages and of robustness as values, and how they are written: text, rich, Markdown, CSV."""

from convexnn.certificates.robustness import RobustnessTable, Sandwich, robustness_table
from convexnn.certificates.trials import RobustnessTrials, stack_trials
from convexnn.pages.document import TRUTHS
from convexnn.report.fit import Claim, FitReport, fit_report
from convexnn.report.robust_error import RobustErrorReport
from convexnn.report.robust_error_runs import collect_reports, robust_error_report
from convexnn.report.sheet import Sheet, to_csv, to_markdown, to_rich, to_text, transposed
from convexnn.report.stages import (
    Stage,
    StageRow,
    StageTable,
    robustness_sheet,
    stage_sheet,
    stage_table,
)

__all__ = [
    "TRUTHS",
    "Claim",
    "FitReport",
    "RobustErrorReport",
    "RobustnessTable",
    "RobustnessTrials",
    "Sandwich",
    "Sheet",
    "Stage",
    "StageRow",
    "StageTable",
    "collect_reports",
    "fit_report",
    "robust_error_report",
    "robustness_sheet",
    "robustness_table",
    "stack_trials",
    "stage_sheet",
    "stage_table",
    "to_csv",
    "to_markdown",
    "to_rich",
    "to_text",
    "transposed",
]
