"""Makers of what is generated: message classes, run-time ABIs, contracts, the picture of the demo."""
