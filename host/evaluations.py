"""What parts of the pack tell each other about a model evaluation, in its transformer options."""

COST_KEY = "icedit_cost"
"""A function that is told after each evaluation what it took, in evaluations of the plain model."""

FULL_KEY = "icedit_full"
"""True for an evaluation that must be computed in full, and must not be left out: one that will be repeated."""
