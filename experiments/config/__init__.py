"""The recipe: one YAML file that says a whole run, checked key by key; each part has a module."""

from experiments.config.data import DataConfig, GlyphsConfig
from experiments.config.execution import ExecutorConfig, LoggingConfig
from experiments.config.recipe import RUN_NAME, Common, Recipe, value_keys
from experiments.config.recipe_file import (
    R,
    dump,
    given,
    is_of_table,
    load,
    load_as,
    names,
    not_a_run,
    override,
    study_names,
)
from experiments.config.scaling import CoefficientsConfig
from experiments.config.search import EvaluatorConfig, ObjectiveConfig, PrunerConfig
from experiments.config.training import BudgetConfig, StartConfig, TrainConfig
from experiments.config.value_types import Quantity, Section, quantity, written

__all__ = [
    "RUN_NAME",
    "BudgetConfig",
    "CoefficientsConfig",
    "Common",
    "DataConfig",
    "EvaluatorConfig",
    "ExecutorConfig",
    "GlyphsConfig",
    "LoggingConfig",
    "ObjectiveConfig",
    "PrunerConfig",
    "Quantity",
    "R",
    "Recipe",
    "Section",
    "StartConfig",
    "TrainConfig",
    "dump",
    "given",
    "is_of_table",
    "load",
    "load_as",
    "names",
    "not_a_run",
    "override",
    "quantity",
    "study_names",
    "value_keys",
    "written",
]
