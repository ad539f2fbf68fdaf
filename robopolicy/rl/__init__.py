"""Learning from outcomes: critics that say how good a chunk is."""
