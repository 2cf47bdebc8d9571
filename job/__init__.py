"""finetune-job: a folder of labelled images in, a proven SavedModel out."""

__version__ = "0.1.0"
