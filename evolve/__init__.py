"""Evolution of formulas: fitness, grammars, strategies, the loop, its journal and the final report."""

from autoprox.bench_cache.runtime.journal import Journal, JournalError
from autoprox.evolve.fitness import Invalid, Judge, Judgement, Task, choose_tasks, kendall
from autoprox.evolve.grammar import GRAMMARS, TABULAR, Grammar, grammar, tabular
from autoprox.evolve.joint import COMBINATIONS
from autoprox.evolve.loop import (
    STRATEGIES,
    Breeder,
    Individual,
    Settings,
    SettingsError,
    best_distinct,
    check_generations,
    evolve,
    restore,
)
from autoprox.evolve.report import FORMULA, MEAN, Lead, Report, Row, report

__all__ = [
    "COMBINATIONS",
    "FORMULA",
    "GRAMMARS",
    "MEAN",
    "STRATEGIES",
    "TABULAR",
    "Breeder",
    "Grammar",
    "Individual",
    "Invalid",
    "Journal",
    "JournalError",
    "Judge",
    "Judgement",
    "Lead",
    "Report",
    "Row",
    "Settings",
    "SettingsError",
    "Task",
    "best_distinct",
    "check_generations",
    "choose_tasks",
    "evolve",
    "grammar",
    "kendall",
    "report",
    "restore",
    "tabular",
]
