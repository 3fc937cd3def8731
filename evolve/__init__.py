"""Evolution of formulas: fitness, grammars, strategies, the loop, its journal and the final report."""

from autoprox.bench_cache.runtime.journal import Journal, JournalError
from autoprox.evolve.breeder import Breeder, Individual, best_distinct
from autoprox.evolve.fitness import Invalid, Judge, Judgement, Task, choose_tasks, kendall
from autoprox.evolve.grammar import GRAMMARS, TABULAR, Grammar, grammar, tabular
from autoprox.evolve.joint import COMBINATIONS
from autoprox.evolve.loop import check_generations, evolve, restore
from autoprox.evolve.report import DEPTH_WIDTH, FITTED, FORMULA, MEAN, Lead, Report, Row, report
from autoprox.evolve.settings import EvolutionSettings, SettingsError
from autoprox.evolve.strategies import STRATEGIES
from autoprox.evolve.verdict import verdict

__all__ = [
    "COMBINATIONS",
    "DEPTH_WIDTH",
    "FITTED",
    "FORMULA",
    "GRAMMARS",
    "MEAN",
    "STRATEGIES",
    "TABULAR",
    "Breeder",
    "EvolutionSettings",
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
    "verdict",
]
