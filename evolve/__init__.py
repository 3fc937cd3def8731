"""Evolution of formulas: fitness, grammars, strategies, the loop, its journal and the final report."""

from autoprox.bench_cache.rank_correlation import kendall
from autoprox.bench_cache.runtime.journal import Journal, JournalError
from autoprox.evolve.breeder import Breeder, Individual, best_distinct
from autoprox.evolve.fitness import Invalid, Judge, Judgement, Task, choose_tasks, leave_out
from autoprox.evolve.grammar import GRAMMARS, TABULAR, Grammar, grammar, tabular
from autoprox.evolve.joint import COMBINATIONS
from autoprox.evolve.looks import LOOKS, add_look, count_looks, looks_so_far
from autoprox.evolve.loop import check_generations, evolve, restore
from autoprox.evolve.refinements import REFINEMENTS
from autoprox.evolve.report import DEPTH_WIDTH, FITTED, FORMULA, MEAN, Lead, Report, Row, report
from autoprox.evolve.settings import EXACT, SAMPLED, EvolutionSettings, SettingsError
from autoprox.evolve.strategies import STRATEGIES
from autoprox.evolve.verdict import verdict

__all__ = [
    "COMBINATIONS",
    "DEPTH_WIDTH",
    "EXACT",
    "FITTED",
    "FORMULA",
    "GRAMMARS",
    "LOOKS",
    "MEAN",
    "REFINEMENTS",
    "SAMPLED",
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
    "add_look",
    "best_distinct",
    "check_generations",
    "choose_tasks",
    "count_looks",
    "evolve",
    "grammar",
    "kendall",
    "leave_out",
    "looks_so_far",
    "report",
    "restore",
    "tabular",
    "verdict",
]
