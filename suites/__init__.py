"""The tests a user runs against a model: modules, model, accuracy. They ask fixtures for everything and hold no threshold.

Nothing is imported from here; `tt-harness run` and `pytest suites` collect it.
"""
