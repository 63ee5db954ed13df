"""Recipes: YAML to checked steps to a resumable run."""

from llmlabel.recipe.load import Recipe, json_schema, load_recipe
from llmlabel.recipe.run import PlannedStep, check, plan, run

__all__ = ["PlannedStep", "Recipe", "check", "json_schema", "load_recipe", "plan", "run"]
