"""The SavedModel: written, proven in a fresh process, described, and used."""
