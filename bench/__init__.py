"""Measurements: dependencies and connector in processes of their own, figures as a table, one JSON file. Judges nothing."""
