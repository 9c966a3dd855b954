"""The tree: connector, intake, pickers, pools, the line of stages."""
