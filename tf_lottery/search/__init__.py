"""The search for winning tickets: its loop over Levels, and its Rounds."""
