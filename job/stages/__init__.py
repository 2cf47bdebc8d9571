"""The stages of the story: each brings a few rooms together for one run."""
