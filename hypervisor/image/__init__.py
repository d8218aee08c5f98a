"""Guest images: built from Debian's packages, and read with suspicion when they come from elsewhere."""
