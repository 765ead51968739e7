"""One config for each reproduced figure."""
