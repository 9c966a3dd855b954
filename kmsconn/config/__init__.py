"""The settings, their sources, their faults. Never does I/O beyond reading its files."""
