"""The image, and the job in it."""
