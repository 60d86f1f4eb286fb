"""Trackers: kinematic clean-up and simulated control."""
