"""The tree that runs: connector, readers, dispatchers, pools, pipeline, stages."""
