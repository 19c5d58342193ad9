"""Training: options, the loop, checkpoints, the watchdog, statistics, evaluation, the run folder."""
