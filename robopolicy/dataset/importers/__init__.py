"""Demonstrations of other formats as datasets: Diffusion Policy's replay stores, robosuite's and robomimic's HDF5."""
