"""The whole job under kills and storage faults: what it costs, and that the result is the same."""
