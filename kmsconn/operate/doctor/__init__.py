"""What is wrong with a connector's surroundings, and what to do: probes of every dependency, and judgements of what they find."""
