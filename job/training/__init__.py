"""Distribution, recipe, loop, features and checkpoints: how the candidates are trained."""
