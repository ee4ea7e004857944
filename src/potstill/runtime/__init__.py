"""Predictors: everything that turns texts into predictions."""
