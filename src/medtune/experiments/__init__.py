"""Trainings and their evaluations side by side."""
