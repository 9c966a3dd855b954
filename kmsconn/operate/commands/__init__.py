"""The commands: the only place that installs signal handlers and logging and opens a monitoring port."""
