"""stagecast: live, lossless progress of long jobs, from a worker to a browser."""

__version__ = "0.1.0"
