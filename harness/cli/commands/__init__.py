"""The commands of `tt-harness`, a module for each. What is slow to import they import when they run."""
