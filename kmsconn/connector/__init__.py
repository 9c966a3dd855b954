"""The tree that runs, its wiring, and the place of this process among several over one journal."""
