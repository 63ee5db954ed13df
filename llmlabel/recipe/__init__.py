"""Recipes: YAML to checked steps to a resumable run."""

from llmlabel.recipe.explain import explain_row
from llmlabel.recipe.load import Recipe, json_schema, load_recipe
from llmlabel.recipe.run import PlannedStep, check, plan, retry, run

__all__ = [
    "PlannedStep",
    "Recipe",
    "check",
    "explain_row",
    "json_schema",
    "load_recipe",
    "plan",
    "retry",
    "run",
]
