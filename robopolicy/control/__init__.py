"""The control loop and what it needs: clocks, robots, actors, the timeline and the safety filter. No torch here."""
