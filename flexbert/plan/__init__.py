"""What a recipe will do and cost, known before a GPU is used."""

from flexbert.plan.make_plan import make_plan

__all__ = ["make_plan"]
