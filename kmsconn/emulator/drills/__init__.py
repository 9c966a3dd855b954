"""Faults that are put on the emulated dependencies from outside while they run, and ended again: one table, ``control.DRILLS``."""
