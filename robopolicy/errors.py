"""Errors meant for a person: one sentence that names the culprit, what was found and what to do.

Scripts catch `RobopolicyError`, print its sentence and exit with status 1; anything else is a bug and keeps its
traceback.
"""


class RobopolicyError(Exception):
    """Base of every error that a user can cause and mend."""


class SpecError(RobopolicyError):
    """Two specs (robot, dataset, policy) do not fit, or a spec is malformed."""


class DatasetError(RobopolicyError):
    """A dataset or an episode file is missing, damaged or of another kind."""


class ConfigError(RobopolicyError):
    """A configuration value is missing, unknown or out of range."""


class CheckpointError(RobopolicyError):
    """A checkpoint folder is incomplete, or does not fit the code, the task or the robot."""


class RenderingError(RobopolicyError):
    """No working GL back end, or an unknown camera."""


class RecordingError(RobopolicyError):
    """A recording cannot keep its promise, for instance because its encoder queue is full."""


class BadActionError(RobopolicyError):
    """An action that must not reach a robot: wrong shape, not finite, or a rotation that is none."""


class DeviceLostError(RobopolicyError):
    """A device stopped answering."""
