"""The network: which backbones there are, their weights, the classifier around one, and where it can be cut."""
