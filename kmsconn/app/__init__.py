"""The tree that runs: connector, intake, dispatchers, pools, pipeline, stages."""
