"""Files on disk: atomic writes, checked reads and run directories."""
