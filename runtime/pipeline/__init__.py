"""Estimates on one worker while the other selects and attends: how a layer's head groups are run."""
