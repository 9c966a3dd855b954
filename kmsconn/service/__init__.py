"""The tree: connector, intake, dispatchers, pools, the line of stages."""
