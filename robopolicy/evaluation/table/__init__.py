"""A table of methods x tasks x training seeds: what belongs into it, and what is written from the measured cells."""
