"""Specifications for the places where the job runs, made from its config."""
