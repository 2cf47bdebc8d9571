"""Which machines train together, which of them this one is, and the meeting of all of them before they start."""

from job.cluster.tf_config import ALONE, Cluster, of

__all__ = ["ALONE", "Cluster", "of"]
