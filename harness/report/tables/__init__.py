"""The tables of the report, a module for each subject, and what a simulated Wormhole gave beside them."""
