"""Simulated robots and tasks behind the Robot interface, with their scripted experts and their rendering."""

from sim import gl as gl  # first: imports MuJoCo without GL, whatever MUJOCO_GL says
