"""The images and labels: as found, surveyed, split, packed, and handed to training batch by batch."""
